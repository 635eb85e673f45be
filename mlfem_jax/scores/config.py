"""What a table of scores is asked for: the command line's settings, and the plan that they make of a network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from mlfem_jax.attribution import methods_on, parse_target
from mlfem_jax.backbones import Backbone, Contrast
from mlfem_jax.data import Workers
from mlfem_jax.engine import BatchSize
from mlfem_jax.gaze import FitRule
from mlfem_jax.photos import check_frame
from mlfem_jax.scores.columns import metric_names, smoothings
from mlfem_jax.scores.fit import read_fits
from mlfem_jax.scores.plan import Plan, Task, parse_method

_CHEAP_METRICS = ("pcc", "similarity", "kl_divergence", "nss", "auc_judd", "auc", "auc_shuffled", "information_gain")


@dataclasses.dataclass(frozen=True)
class Config:
    """Scores of explanation methods against human gaze, or known events, over a data set, in one pass.

    Attributes:
        directory: the folder of the prepared data set, of photographs or recordings.
        out: folder of the scores; one that holds some already is completed.
        backbone: see `mlfem backbones`.
        weights: a weight file, or "random". Default: the packaged weights.
        methods: names, each with its options if need be: add:alpha=0.3; "all" is every method, but those that read
            attention where the network has none. maps:FOLDER are maps that others have made: pictures, .npy or .mat
            files by the names of the images, or an .npz or HDF5 file.
        metrics: names; "gaze", "model", "method", "map" and "all" are all of a kind. Slow: "emd" (a solver on the
            host), "insertion" and "deletion" (33 forwards each for a map), "abpc" (66), "road" (8, and as many linear
            systems), "sensitivity_n" and "infidelity" (128 each), "irof" (81, and superpixels of each map), "stability"
            and "max_sensitivity" (the method 16 times), "randomization" and "randomization_independent" (the method
            once for each layer of the network), "randomization_smooth" (10 times that).
        task: what a correct prediction is: the best class is a label ("single"), or all classes present have a sigmoid
            above 0.5 ("multi").
        target: what is explained of every image: a class (281), several (281,282), or why one rather than another
            (281-282). Default: the predicted class.
        humans: score one half of the observers against the other too: the human ceiling.
        gold: score two more rows of people: "observers", the mean over observers of how well the others predict each
            of them (the gold standard), and "others", where people look on the other images (the center bias).
        frame: height and width whose number of pixels each photograph gets on its way to the network, in its own
            proportions, so that none is squeezed. Default: the network's input size, whatever those proportions are.
        compare_in: where maps and gaze are compared: the network's input, or the photograph's own pixels. The earth
            mover's cells are 32 pixels of that. Default: the input; the photograph where `frame` is given.
        bars: score the bars that pad a photograph (CAT2000) too.
        smooth: how maps are smoothed before they are compared with gaze, each a column of its own: none, gaze (by the
            sigma of the density of fixations), or pixels of the photograph. A blurred density of fixations rewards
            smooth maps: score both, none and gaze, and the report says which ranking survives. fit makes each map a
            density of fixations, for KL and information gain.
        fits: the file that `mlfem fit` wrote, for `--smooth fit`; fitted on other images than are scored.
        sigma_px: of the Gaussian on each fixation, in pixels of the photograph; of recordings in samples of what the
            data set holds, the same along each axis. Default: the data set's own.
        split: name of a split, or a slice of one: "full[:100]". Default: the only split.
        fold: (i, k) scores fold i of k alone, counted from 0, of `mlfem_jax.data.split.k_folds`. Default: all.
        rule: how a photograph gets to the network's input size.
        batch_size: images in a forward pass; auto is as many as fit the devices.
        part_size: images in a file.
        dtype: of the forward pass.
        map_size: side in pixels of the maps kept for the report; 0 keeps neither maps nor photographs.
        photo_size: longer side in pixels of the photographs kept for the report.
        workers: processes that read images; 0 is threads of this one. auto is none on a CPU, and elsewhere one for each
            thousand images of a run, as far as there are cores; with a frame, for each thousand of one frame in a
            part, and so none unless parts are large.
        distributed: one of several processes that the cluster has started together (Slurm, Cloud TPU, ...).
        coordinator: HOST:PORT of the first of several processes, elsewhere.
        process_index: which of several processes this is. Without a coordinator they share nothing but the folder.
        process_count: how many processes share the work.
    """

    directory: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    backbone: str = "efficientnet_lite0"
    weights: str | Path | None = None
    methods: tuple[str, ...] = ("grad_cam", "fem", "add", "top", "center")
    metrics: tuple[str, ...] = _CHEAP_METRICS
    task: Task = "single"
    target: str | None = None
    humans: bool = True
    gold: bool = False
    frame: tuple[int, int] | None = None
    compare_in: Literal["input", "photo"] | None = None
    bars: bool = False
    smooth: tuple[str, ...] = ("none",)
    fits: Path | None = None
    sigma_px: float | None = None
    split: str | None = None
    fold: tuple[int, int] | None = None
    rule: FitRule = "stretch"
    batch_size: BatchSize = 16
    part_size: int = 256
    dtype: str = "float32"
    map_size: int = 56
    photo_size: int = 224
    workers: Workers = "auto"
    distributed: bool = False
    coordinator: str | None = None
    process_index: int | None = None
    process_count: int | None = None

    def __post_init__(self) -> None:
        """Checks what goes together.

        Raises:
            ValueError: names the field.
        """
        if self.frame is not None:
            check_frame(self.frame)
        if self.frame is not None and self.compare_in == "input":
            raise ValueError(
                "compare_in: expected photo where there is a frame, inputs being of several sizes, got input"
            )


def make_plan(
    config: Config, sigma_px: float | Sequence[float] | None, backbone: Backbone, *, observers: int = 0
) -> Plan:
    """What the command line asks for of a network; `sigma_px` and the number of `observers` are the data set's own."""
    names = methods_on(backbone) if config.methods == ("all",) else config.methods
    axes = len(sigma_px) if isinstance(sigma_px, Sequence) else 0  # of the events of recordings
    if config.sigma_px is not None:
        sigma_px = (config.sigma_px,) * axes if axes else config.sigma_px
    if sigma_px is None:
        raise ValueError("sigma_px: expected a number of pixels from the data set, got none; give --sigma-px")
    if config.photo_size < 1:
        raise ValueError(f"photo_size: expected at least 1, got {config.photo_size}")
    return Plan(
        methods=tuple((name, parse_method(name, rule=config.rule)) for name in names),
        metrics=metric_names(config.metrics),
        sigma_px=tuple(map(float, sigma_px)) if isinstance(sigma_px, Sequence) else float(sigma_px),
        task=config.task,
        humans=config.humans,
        observers=observers if config.gold else 0,
        compare_in=config.compare_in or ("input" if config.frame is None else "photo"),
        rule=config.rule,
        bars=config.bars,
        smooth=smoothings(config.smooth),
        fits=() if config.fits is None else read_fits(config.fits, tuple(names)),
        target=_target(config.target),
        map_size=config.map_size,
        dtype=config.dtype,
    )


def _target(text: str | None) -> int | tuple[int, ...] | Contrast | None:
    """The target of a plan, which has to be hashable."""
    target = None if text is None else parse_target(text)
    if isinstance(target, str):  # "self", which None stands for
        return None
    return tuple(target[0]) if isinstance(target, list) else target
