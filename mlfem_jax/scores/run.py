"""Scores of explanation methods against human gaze, over a data set, in one pass.

    mlfem score DATA OUT --methods grad_cam fem add:alpha=0.3 top center --metrics pcc similarity nss

DATA is what `mlfem prepare` wrote. OUT gets Parquet parts with one row for each (image, method). The forward pass is
shared by all methods. A run that was killed goes on where it was; several processes each write their own parts.
Then `mlfem report OUT --out REPORT`.
"""

import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from jaxtyping import Int
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mlfem_jax import __version__
from mlfem_jax.backbones import Backbone, load_backbone
from mlfem_jax.data import (
    Source,
    check_maps,
    fixation_totals,
    fold_positions,
    open_dataset,
    record_id,
    scan,
)
from mlfem_jax.files import printable, refuse_foreign, writing
from mlfem_jax.parallel import Processes, is_first, start
from mlfem_jax.runs import check_claim, claim, provenance
from mlfem_jax.scores.batch import score_batch_size, score_batches
from mlfem_jax.scores.config import Config, make_plan
from mlfem_jax.scores.plan import Plan
from mlfem_jax.scores.reading import format_of, format_of_totals, groups_by_frame, read_groups
from mlfem_jax.scores.recordings import check_asked, map_shape, recording_format, without_flat_metrics
from mlfem_jax.scores.rows import image_records
from mlfem_jax.scores.stored import StoredMaps
from mlfem_jax.scores.table import part_names, part_ranges, read_scores, undefined_counts, unfinished, write_part


def score(config: Annotated[Config, tyro.conf.arg(name="")]) -> None:
    """Scores explanation methods against human gaze, over a prepared data set, in one pass.

    Args:
        config: what is scored, and how.

    Raises:
        ValueError: what cannot be scored so, by name.
        OSError: a file that is not there, or not readable.
    """
    if config.distributed or config.coordinator is not None:
        start(Processes(config.distributed, config.coordinator, config.process_index, config.process_count))
    source = open_dataset(config.directory, config.split)
    backbone = load_backbone(config.backbone, config.weights)
    score_records(config, source, dict(source.dataset_info.metadata), backbone)


def score_records(config: Config, source: Source, dataset: Mapping[str, Any], backbone: Backbone) -> None:
    """Scores the images that are left to do, and prints what is undefined.

    Args:
        config: `directory`, `split`, `backbone` and `weights` are not opened, only noted in the settings.
        source: records of a prepared data set.
        dataset: its metadata: "name", "sigma_px", "class_names".
        backbone: the network.

    Raises:
        ValueError: another process writes into the folder, and is no other part of this run.
        FileExistsError: a file of somebody else's would be written over.
    """
    own, processes = _process(config)
    with writing(config.out, process_index=own if processes > 1 else None):
        _score_records(config, source, dataset, backbone, (own, processes))


def _score_records(
    config: Config, source: Source, dataset: Mapping[str, Any], backbone: Backbone, process: tuple[int, int]
) -> None:
    observers = _observer_count(source) if config.gold else 0
    index, recorded = scan(source), dataset.get("recording") is not None
    if recorded:
        config = without_flat_metrics(config)
        config = config if _any_observer(source) else dataclasses.replace(config, humans=False)
    plan = make_plan(config, dataset["sigma_px"], backbone, observers=observers)
    if recorded:
        check_asked(config, plan)
        example_format = recording_format(dataset, index, backbone)
    else:
        example_format = None
    positions = np.arange(len(source)) if config.fold is None else fold_positions(index.groups, config.fold)
    looked = bool(index.fixation_counts[positions].any()) or any(source[i]["density"] for i in positions)
    settings = _settings(config, plan, dataset, backbone, len(positions), looked)
    _check_stored(plan, source, positions)
    check_claim(config.out, settings)
    parts = part_ranges(len(positions), config.part_size)
    todo = unfinished(config.out, len(parts), process_index=process[0], process_count=process[1])
    refuse_foreign(config.out, [name for number in todo for name in part_names(number)])
    places = [place for number in todo for place in parts[number]]
    if places:
        classes = len(dataset["class_names"])
        example_format = example_format or format_of(config, index, positions, backbone, classes)
        totals = fixation_totals(source, format_of_totals(example_format, plan, index))
        options = {"batch_size": config.batch_size, "most": len(places)}
        size_of = functools.cache(lambda shape: score_batch_size(backbone, shape, plan, totals, **options))
        shares = [parts[number] for number in todo]
        groups = groups_by_frame(config, index, positions, example_format.shape, shares, backbone.frame_step)
        batches = read_groups(source, positions, groups, example_format, size_of, workers=config.workers)
        scored = score_batches(backbone, batches, plan, totals)
        order = itertools.chain.from_iterable(group for _, group in groups)
        records = image_records(scored, order, plan, rule=config.rule, photo_size=config.photo_size)
        with Progress(console=Console(stderr=True)) as bar:  # which an error ends, before it is told
            records = iter(bar.track(records, len(places), description="images"))
            for number in todo:
                images = list(itertools.islice(records, len(parts[number])))
                images.sort(key=lambda image: image[0][0]["position"])
                rows = [row for own_rows, _ in images for row in own_rows]
                pictures = [picture for _, picture in images if plan.map_size]
                claim(config.out, settings)  # not before: a run that fails on what it was asked for leaves nothing
                write_part(config.out, number, rows, pictures, metrics=plan.column_names, settings=settings)
    _wait_for_others(config.out, len(parts))
    if is_first() and any(config.out.glob("scores-*.parquet")):  # a process may have no part of its own
        _print_undefined(config.out, plan)


def _check_stored(plan: Plan, source: Source, positions: Int[np.ndarray, " images"]) -> None:
    """Prints how the maps that others have made fit the images of the run.

    Raises:
        ValueError: not one of them does.
    """
    for name, method in plan.methods:
        if isinstance(method, StoredMaps):
            records = (source[int(i)] for i in positions)
            images = [(record_id(r), (int(r["size"][0]), int(r["size"][1]))) for r in records]
            check = check_maps(method.files, images)
            if not check.found:
                raise ValueError(f"methods: expected maps of the {len(images)} images in {name}, got {check}")
            print(printable(f"{name}: {check}"), file=sys.stderr)


def _wait_for_others(folder: Path, parts: int) -> None:
    """Says what other processes have not written yet; the first of those that JAX has joined waits for it."""
    missing = len(unfinished(folder, parts))
    if not missing or not is_first():
        return
    left = f"{printable(str(folder))}: {missing} of {parts} parts are missing, which other processes have to write"
    restart = "if one has died, the same command goes on with what is missing"
    if jax.process_count() == 1:
        print(f"{left}; {restart}", file=sys.stderr)
        return
    print(f"{left}; waiting for them. A death ends this process too: {restart}", file=sys.stderr, flush=True)
    while unfinished(folder, parts):
        time.sleep(1)  # should a process die meanwhile, JAX ends this one


def _observer_count(source: Source) -> int:
    """One more than the highest number of an observer.

    Raises:
        ValueError: there is none to be predicted by another.
    """
    highest = max((int(np.max(source[i]["observers"], initial=-1)) for i in range(len(source))), default=-1)
    if highest < 1:
        raise ValueError("gold: expected at least two observers in the data set, got none who are known")
    return highest + 1


def _any_observer(source: Source) -> bool:
    """Whether anybody is known who looked."""
    return any(int(np.max(source[i]["observers"], initial=-1)) >= 0 for i in range(len(source)))


def _process(config: Config) -> tuple[int, int]:
    index = jax.process_index() if config.process_index is None else config.process_index
    return index, jax.process_count() if config.process_count is None else config.process_count


def _settings(
    config: Config, plan: Plan, dataset: Mapping[str, Any], backbone: Backbone, images: int, gaze: bool
) -> dict[str, Any]:
    """All that decides the numbers, for the metadata of the table."""
    recorded = dataset.get("recording") is not None
    return {
        "dataset": dataset["name"],
        "fingerprint": dataset.get("fingerprint"),
        "split": config.split,
        "fold": config.fold,
        "images": images,
        "gaze": gaze,
        "backbone": backbone.name,
        "weights": None if config.weights is None else str(config.weights),
        "input_size": backbone.input_size,
        "rule": config.rule,
        "methods": {name: dict(method.options) for name, method in plan.methods},
        "metrics": plan.column_names,
        "rows": plan.rows,
        "task": plan.task,
        "target": config.target,
        "frame": config.frame,
        "compare_in": plan.compare_in,
        "bars": plan.bars,
        "fits": [dataclasses.asdict(fit) for fit in plan.fits],
        "sigma_px": plan.sigma_px,
        "dtype": plan.dtype,
        "map_size": plan.map_size,
        "photo_size": config.photo_size,
        "part_size": config.part_size,
        "class_names": list(dataset["class_names"]),
        "network_labels": list(backbone.labels),
        "version": __version__,
        "commit": provenance()["commit"],
        **({"map_shape": map_shape(backbone, plan.map_size)} if recorded else {}),
    }


def _print_undefined(folder: Path, plan: Plan) -> None:
    """What is undefined, method by method; one line where nothing is."""
    table = read_scores(folder)
    counts = undefined_counts(table, plan.rows, plan.column_names)
    missing = [metric for metric in plan.column_names if any(row[metric] for row in counts)]
    rows = [row for row in counts if row["constant"] or any(row[metric] for metric in missing)]
    if rows:
        shown = Table(
            "method", "images", "constant maps", *missing, title=f"{printable(str(folder))}: undefined values"
        )
        for row in rows:
            shown.add_row(*(str(row[name]) for name in ("method", "images", "constant", *missing)))
        Console().print(shown)
    else:
        print(f"{printable(str(folder))}: {table.num_rows} rows, every value is defined and no map is constant")
    unknown = table["correct"].null_count // len(plan.rows)
    if unknown:
        print(f"correct or wrong is unknown for {unknown} images: no labels, or of other classes than the network's")
