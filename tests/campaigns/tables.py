"""Damaged tables: CSV, text and JSON that data sets are read from: `python -m tests.campaigns.tables [COUNT]`."""

import copy
import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlfem_jax.data.releases.folder import read_folder
from mlfem_jax.data.releases.mexculture import read_mexculture
from mlfem_jax.data.releases.records import Example, Problems, Release
from mlfem_jax.data.releases.salicon import read_salicon, read_salicon_json
from tests.campaigns.trial import judged, main, mutated

COUNT = 1200
CELLS = [
    "", " ", "nan", "NaN", "inf", "-inf", "1e400", "-1e39", "9" * 400, "9" * 5000, "x" * 200_000, "-1", "0.5", "1_0",
    "1,5", "\x00", "\x1b[2J", "\r", "\n", '"', '"open', "\u0661", "é", "e\u0301", "../../a", "/a.png", "a.png/", "a",
    "b/a.png", "\\", "=1+1", "\ud800", "1e-320", "true", "0x10", "a.PNG", ".", "..", "a.5",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, "", "x", "x" * 10**5, -1, 0, 1, 2**63, 10**400, 1e308, float("nan"), float("inf"), [], {}, [[]],
    [[1]], [[1, 2, 3]], [["a", 1]], {"id": 1}, "e\u0301", "\x1b[2J", "b/a.png", "/", "..",
]  # fmt: skip
FIXATIONS = [["image", "observer", "x", "y", "duration"], ["a.png", "1", "3", "4", "100"], ["a", "2", "15", "11", ""],
             ["b/a.png", "1", "5", "6", "9"], ["é.png", "zoe", "7.5", "2", "3"]]  # fmt: skip
LABELS = [["image", "label", "clutter"], ["a.png", "dog", "4"], ["a.png", "cat", "4"], ["b/a", "cat", ""]]
STEM = "COCO_train2014_000000000009"
ANNOTATIONS = {
    "images": [{"id": 9, "file_name": f"{STEM}.jpg", "height": 12, "width": 16}],
    "annotations": [{"image_id": 9, "worker_id": 3, "fixations": [[1, 1], [12, 16], [5, 7]]}],
}
INSTANCES = {
    "images": [{"id": 9}],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    "annotations": [{"image_id": 9, "category_id": 18, "iscrowd": 0}],
}


def image(path: Path) -> None:
    """An image of 12 x 16 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(path)


def check(found: Release) -> None:
    """Reads every record; whatever the table said, what is stored is possible."""
    for image_id in (one for ids in found.splits.values() for one in ids):
        example = found.read(image_id)
        if example is not None:
            check_example(example)


def check_example(example: Example) -> None:
    """A stored record is possible."""
    last = np.array(example.size) - 1
    assert example.fixations.shape[1:] == (2,) and (example.fixations >= 0).all()
    assert (example.fixations <= last).all() and (len(example.fixations) or example.density)
    durations = example.durations[~np.isnan(example.durations)]
    assert np.isfinite(durations).all() and (durations >= 0).all()
    assert len(example.fixations) == len(example.observers) == len(example.durations)
    assert (example.observers >= -1).all() and -1 <= example.clutter < 2**31
    example.id.encode()


def _table(rows: list[list[str]], rng: random.Random) -> bytes:
    rows = [list(row) for row in rows]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row, kind = rng.choice(rows), rng.randrange(6)
        column = rng.randrange(len(row)) if row else 0
        if kind < 3 and row:
            row[column] = rng.choice(CELLS)
        elif kind == 3 and row:
            del row[column]
        elif kind == 4:
            row.insert(column, rng.choice(row + CELLS))
        else:
            rows.insert(rng.randrange(len(rows) + 1), list(row))
    text = io.StringIO()
    csv.writer(text, lineterminator=rng.choice(("\n", "\r\n", "\r"))).writerows(rows)
    encoded = text.getvalue().encode(rng.choice(("utf-8", "utf-8-sig")), "surrogatepass")
    return mutated(encoded, rng) if rng.random() < 0.5 else encoded


def _json(content: Any, rng: random.Random) -> bytes:
    content = json.loads(json.dumps(content))
    for _ in range(rng.choice((1, 1, 2))):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
                place = place[key]
                continue
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = copy.deepcopy(rng.choice(VALUES))
            break
    encoded = json.dumps(content).encode()
    if rng.random() < 0.1:
        return b"[" * 10**5
    return mutated(encoded, rng) if rng.random() < 0.4 else encoded


def folder_csv(folder: Path, rng: random.Random) -> tuple[Callable, Path]:
    """Own data, one of its two tables damaged."""
    for name in ("a.png", "b/a.png", "é.png"):
        image(folder / "images" / name)
    whole, broken = [("fixations", FIXATIONS), ("labels", LABELS)][:: rng.choice((1, -1))]
    with (folder / f"{whole[0]}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(whole[1])
    (folder / f"{broken[0]}.csv").write_bytes(_table(broken[1], rng))
    return read_folder, folder / f"{broken[0]}.csv"


def mexculture_text(folder: Path, rng: random.Random) -> tuple[Callable, Path]:
    """MexCulture142 with a damaged text of fixations."""
    image(folder / "Images/Col_Casa_1_2.png")
    path = folder / "Fixations/Col_Casa_GazeFix_1_2.txt"
    path.parent.mkdir()
    path.write_bytes(_table([row[2:] for row in FIXATIONS][rng.randrange(2) :], rng))
    return read_mexculture, path


def salicon_json(folder: Path, rng: random.Random) -> tuple[Callable, Path]:
    """The older SALICON with damaged annotations."""
    image(folder / f"images/{STEM}.jpg")
    path = folder / "annotations/fixations_train2014.json"
    path.parent.mkdir()
    path.write_bytes(_json(ANNOTATIONS, rng))
    return read_salicon_json, path


def coco_json(folder: Path, rng: random.Random) -> tuple[Callable, Path]:
    """SALICON with damaged labels of COCO."""
    image(folder / f"images/{STEM}.jpg")
    image(folder / f"maps/train/{STEM}.png")
    path = folder / "annotations/instances_train2014.json"
    path.parent.mkdir()
    path.write_bytes(_json(INSTANCES, rng))
    return read_salicon, path


def trial(seed: int, folder: Path) -> str:
    """A release with a damaged table: read into possible records, or refused in one line."""
    rng = random.Random(seed)
    read, path = rng.choice((folder_csv, folder_csv, mexculture_text, salicon_json, coco_json))(folder, rng)
    return judged(lambda: check(read(folder, Problems())), str(path), STEM)


if __name__ == "__main__":
    main("tables", trial, COUNT)
