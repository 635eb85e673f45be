"""The table of scores: a folder of Parquet parts, each a fixed range of images, each whole or not there.

`scores-00000.parquet` has one row for each (image, method); `pictures-00000.parquet` one row for each image, with a
small photograph and gaze map; `settings.json` is what produced them, and is in the metadata of every part too.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlfem_jax.files import printable, replacing
from mlfem_jax.runs import read_settings

_IMAGE_FIELDS = [
    ("position", pa.int32()),
    ("id", pa.string()),
    ("labels", pa.list_(pa.int32())),
    ("prediction", pa.int32()),
    ("probability", pa.float32()),
    ("correct", pa.bool_()),
    ("clutter", pa.int32()),
]
PICTURES = pa.schema([("id", pa.string()), ("photo", pa.binary()), ("gaze", pa.binary())])


def score_schema(metrics: Sequence[str]) -> pa.Schema:
    """The columns of a part: those of the image, the method, whether its map is constant, the metrics, a small map.

    `correct` and `clutter` are null where unknown; a metric is NaN where undefined; `map` is null where not kept.
    """
    of_method = [("method", pa.string()), ("constant", pa.bool_())]
    scores = [(name, pa.float32()) for name in metrics]
    return pa.schema(_IMAGE_FIELDS + of_method + scores + [("map", pa.binary())])


def part_ranges(images: int, part_size: int) -> list[range]:
    """The images of each part, by their position in the run.

    Example:
        >>> part_ranges(5, 2)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    if part_size < 1:
        raise ValueError(f"part_size: expected at least 1, got {part_size}")
    return [range(start, min(start + part_size, images)) for start in range(0, images, part_size)]


def unfinished(folder: Path, parts: int, *, process_index: int = 0, process_count: int = 1) -> list[int]:
    """Numbers of the parts that are this process's to write and are not there yet, ascending.

    Every process_count-th part is a process's own. Which are written depends on the folder alone, so a run may go on
    with another number of processes.
    """
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index: expected 0 to {process_count - 1}, got {process_index}")
    own = range(process_index, parts, process_count)
    return [number for number in own if not (folder / part_names(number)[0]).exists()]


def write_part(
    folder: Path,
    number: int,
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[Mapping[str, Any]],
    *,
    metrics: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Writes a part, the pictures first: a part is finished when its scores are there."""
    metadata = {"mlfem_settings": json.dumps(settings)}
    scores_name, pictures_name = part_names(number)
    for name, schema, records in ((pictures_name, PICTURES, pictures), (scores_name, score_schema(metrics), rows)):
        table = pa.Table.from_pylist(list(records), schema=schema.with_metadata(metadata))
        with replacing(folder / name) as file:
            pq.write_table(table, file, compression="zstd")


def read_scores(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a folder, in the order of the images.

    Args:
        folder: that `mlfem score` wrote.
        columns: to read. Default: all but the small maps.

    Raises:
        FileNotFoundError: no part is there.
        ValueError: an image has two rows of one method, or a part has other settings than the folder.
    """
    settings = read_settings(folder)
    paths = sorted(folder.glob("scores-*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{folder}: expected scores-*.parquet, got no such file")
    if columns is None:
        columns = [name for name in score_schema(settings["metrics"]).names if name != "map"]
    for path in paths:
        if _settings_of(path) != settings:
            raise ValueError(f"{path}: expected the settings of {folder}, got others")
    return pa.concat_tables([_read(path, columns) for path in paths])


def read_pictures(folder: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(picture record, the rows of its image with their small maps), image after image, part after part."""
    for path in sorted(folder.glob("scores-*.parquet")):
        rows = _read(path, ["id", "method", "map"]).to_pylist()
        by_id: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_id.setdefault(row["id"], []).append(row)
        beside = path.with_name(path.name.replace("scores", "pictures"))
        for picture in _read(beside, PICTURES.names).to_pylist():
            if picture["id"] not in by_id:
                raise ValueError(f"{beside}: expected the images of {path.name}, got {picture['id']!r} too")
            yield picture, by_id[picture["id"]]


def score_matrix(table: pa.Table, metric: str, methods: Iterable[str]) -> np.ndarray:
    """(images, methods) of one metric, NaN where undefined; images in the order of the table.

    Raises:
        ValueError: an image lacks the row of a method, or has it twice.
    """
    names = np.asarray(table["method"].to_pylist())
    ids = np.asarray(table["id"].to_pylist())
    values = table[metric].to_numpy().astype(float)
    columns, order = [], None
    for method in methods:
        own = names == method
        order = ids[own] if order is None else order
        if not np.array_equal(ids[own], order) or len(set(order)) < len(order):
            raise ValueError(
                f"table: expected one row of method {method!r} for each image, in one order, got {own.sum()} rows of "
                f"{len(set(ids[own]))} images"
            )
        columns.append(values[own])
    return np.stack(columns, axis=1)


def undefined_counts(table: pa.Table, methods: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """For each method the number of its rows, of constant maps, and of undefined values of each metric."""
    names = np.asarray(table["method"].to_pylist())
    constant = np.asarray(table["constant"].to_pylist(), bool)
    counts = []
    for method in methods:
        own = names == method
        undefined = {metric: int(np.isnan(table[metric].to_numpy()[own]).sum()) for metric in metrics}
        counts.append({"method": method, "images": int(own.sum()), "constant": int(constant[own].sum()), **undefined})
    return counts


def _settings_of(part: Path) -> Any:
    with _naming(part):
        return json.loads((pq.read_schema(part).metadata or {})[b"mlfem_settings"])


def _read(part: Path, columns: Sequence[str]) -> pa.Table:
    with _naming(part):
        return pq.read_table(part, columns=list(columns)).select(list(columns))


@contextlib.contextmanager
def _naming(part: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, OSError) as error:  # of pyarrow, some with line breaks, none with the file
        reason = printable(" ".join(str(error).split()), 300)
        raise ValueError(f"{part}: expected a part of a table of scores, got something else ({reason})") from error


def part_names(number: int) -> tuple[str, str]:
    """Names of the two files of a part."""
    return f"scores-{number:05d}.parquet", f"pictures-{number:05d}.parquet"
