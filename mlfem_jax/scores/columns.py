"""The columns of the table of scores: every metric of a map, whatever it is compared with."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
from jaxtyping import Array, Bool, Float, Int

from mlfem_jax import faithfulness, metrics
from mlfem_jax.attribution import superpixels
from mlfem_jax.backbones import unit_pixels
from mlfem_jax.gaze import check_sigma

_SUPERPIXELS = 40


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Gaze:
    """What a map is compared with; all fields of one image, or with a leading axis of a batch.

    Of recordings there are other axes than (H, W), and events in place of fixations.

    Attributes:
        density: (H, W) the gaze fixation density map.
        fixations: (n, 2) as (y, x), in pixels.
        mask: (n,) False for padding.
        content_box: (y0, x0, y1, x1) half open: the pixels that exist.
        others: (H, W) how many fixations each pixel has on the other images of the data set.
        prior: (H, W) their density: where people look whatever the image.
        sigma_px: along each axis, of the density.
    """

    density: Float[Array, "..."]
    fixations: Float[Array, "*N n axes"]
    mask: Bool[Array, "*N n"]
    content_box: Int[Array, "*N sides"]
    others: Int[Array, "..."]
    prior: Float[Array, "..."]
    sigma_px: Float[Array, "*N axes"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        title: for figures and tables.
        against: what `function` takes: "gaze": (map, gaze); "map": the map alone; "model": (backbone, image, map,
            target=, output=); "method": (backbone, key, image, method=), from which it computes maps of its own.
        function: to a score, or to several.
        higher_is_better: False where the smaller score wins.
        part: which of several scores this column is.
        photos: only of photographs.
    """

    title: str
    against: Literal["gaze", "model", "method", "map"]
    function: Callable[..., Array | tuple[Array, ...]]
    higher_is_better: bool = True
    part: int | None = None
    photos: bool = False


def _of_density(title: str, metric: Callable[..., Array], *, higher_is_better: bool = True) -> Metric:
    def function(importance: Array, gaze: Gaze) -> Array:
        return metric(importance, gaze.density, content_box=gaze.content_box)

    return Metric(title, "gaze", function, higher_is_better)


def _of_fixations(title: str, metric: Callable[..., Array], **from_gaze: str) -> Metric:
    """`from_gaze` names fields of `Gaze` that the metric takes as further arguments."""

    def function(importance: Array, gaze: Gaze) -> Array:
        more = {argument: getattr(gaze, field) for argument, field in from_gaze.items()}
        return metric(importance, gaze.fixations, mask=gaze.mask, content_box=gaze.content_box, **more)

    return Metric(title, "gaze", function)


def _near_fixations(title: str, metric: Callable[..., Array]) -> Metric:
    """Of the map and a mask: what is at most two sigma from a fixation along every axis."""

    def function(importance: Array, gaze: Gaze) -> Array:
        near = metrics.near_mask(gaze.fixations, importance.shape, reach_px=2 * gaze.sigma_px, mask=gaze.mask)
        return metric(importance, near, content_box=gaze.content_box)

    return Metric(title, "gaze", function)


def _mean_randomization(**options) -> Callable[..., Array]:
    """The mean over the layers, of which the report can show one number."""

    def mean(backbone, key, image, *, method) -> Array:
        return faithfulness.randomization_check(backbone, key, image, method=method, **options).mean()

    return mean


def _irof(backbone, image, importance, **options) -> Array:
    """About 40 superpixels of the image, the same for every map."""
    labels = superpixels(unit_pixels(image)[None], _SUPERPIXELS)[0]
    return faithfulness.irof(backbone, image, importance, labels, most=2 * _SUPERPIXELS, **options)


def _seeded(function: Callable[..., Array]) -> Callable[..., Array]:
    """A test against the network that draws at random: the same for every image and map."""

    def seeded(backbone, image, importance, **options):
        return function(backbone, jax.random.key(0), image, importance, **options)

    return seeded


def _in_cells(function: Callable[..., Array]) -> Callable[..., Array]:
    """A test that hides cells of a grid, 14 a side; of a smaller image, its pixels."""

    def in_cells(backbone, key, image, importance, **options):
        return function(backbone, key, image, importance, cells=min(14, *importance.shape), **options)

    return in_cells


def _mit_shuffled(importance: Array, fixations: Array, **options) -> Array:
    return metrics.auc_shuffled_sampled(importance, fixations, key=jax.random.key(0), **options)


METRICS: dict[str, Metric] = {
    "pcc": _of_density("PCC", metrics.pcc),
    "similarity": _of_density("SIM", metrics.similarity),
    "kl_divergence": _of_density("KL", metrics.kl_divergence, higher_is_better=False),
    "emd": dataclasses.replace(_of_density("EMD", metrics.emd, higher_is_better=False), photos=True),
    "nss": _of_fixations("NSS", metrics.nss),
    "auc_judd": _of_fixations("AUC-Judd", metrics.auc_judd),
    "auc": _of_fixations("AUC", metrics.auc),
    "auc_shuffled": _of_fixations("sAUC", metrics.auc_against_counts, counts="others"),
    "auc_shuffled_mit": _of_fixations("sAUC, MIT", _mit_shuffled, counts="others"),
    "information_gain": _of_fixations("IG", metrics.information_gain, baseline="prior"),
    "mass_inside": _near_fixations("Mass inside", metrics.energy_inside),
    "pointing_game": _near_fixations("Pointing game", metrics.pointing_game),
    "insertion": Metric("Insertion", "model", faithfulness.insertion_auc),
    "deletion": Metric("Deletion", "model", faithfulness.deletion_auc, False),
    "drop": Metric("Drop", "model", faithfulness.confidence_change, False, part=0),
    "increase": Metric("Increase", "model", faithfulness.confidence_change, part=1),
    "abpc": Metric("ABPC", "model", faithfulness.abpc),
    "road": Metric("ROAD", "model", _seeded(faithfulness.road)),
    "sensitivity_n": Metric("Sensitivity-n", "model", _seeded(_in_cells(faithfulness.sensitivity_n))),
    "infidelity": Metric("Infidelity", "model", _seeded(_in_cells(faithfulness.infidelity)), False),
    "irof": Metric("IROF", "model", _irof, photos=True),
    "stability": Metric("Lipschitz", "method", faithfulness.local_lipschitz, False),
    "max_sensitivity": Metric("Max-sensitivity", "method", faithfulness.max_sensitivity, False),
    "sparseness": Metric("Gini", "map", metrics.sparseness),
    "entropy": Metric("Entropy", "map", metrics.entropy, False),
    "effective_complexity": Metric("Complexity", "map", metrics.effective_complexity, False),
    "randomization": Metric("Randomization", "method", _mean_randomization(), False),
    "randomization_independent": Metric(
        "Randomization, each layer", "method", _mean_randomization(order="independent"), False
    ),
    "randomization_smooth": Metric("Randomization, smooth", "method", _mean_randomization(draws=10, noise=0.1), False),
    "complexity_rise": Metric("Complexity rise", "method", faithfulness.complexity_rise),
    "random_logit": Metric("Random logit", "method", faithfulness.random_logit, False),
}
"""Every metric of `mlfem score` by name, in the order of the table."""


def metric_names(wanted: tuple[str, ...], *, photos: bool = True) -> tuple[str, ...]:
    """Names of metrics, where "gaze", "model", "method", "map" and "all" stand for all of their kind.

    Args:
        wanted: names of metrics and kinds.
        photos: whether a kind has those too that are for photographs alone.

    Raises:
        ValueError: an unknown name, or none.

    Example:
        >>> metric_names(("pcc", "map"))
        ('pcc', 'sparseness', 'entropy', 'effective_complexity')
    """
    names: list[str] = []
    for name in wanted:
        of_kind = [
            metric
            for metric, entry in METRICS.items()
            if name in (entry.against, "all") and (photos or not entry.photos)
        ]
        if not of_kind and name not in METRICS:
            kinds = "gaze, model, method, map, all"
            raise ValueError(f"metrics: expected some of {', '.join(METRICS)}, {kinds}, got {name!r}")
        names += [metric for metric in of_kind or [name] if metric not in names]
    if not names:
        raise ValueError(f"metrics: expected some of {', '.join(METRICS)}, got none")
    return tuple(names)


class Column(NamedTuple):
    """A column of the table: a metric, and how the maps were smoothed before it.

    Attributes:
        metric: name in `METRICS`.
        smoothing: "none", "gaze" (by the sigma of the GFDM), "fit" (the density fitted to the method), or a number of
            pixels of the photograph, as text.
    """

    metric: str
    smoothing: str = "none"

    @property
    def name(self) -> str:
        """In the table: "pcc", "pcc@gaze", "pcc@12"."""
        return self.metric if self.smoothing == "none" else f"{self.metric}@{self.smoothing}"


def column(name: str) -> Column:
    """The column of that name.

    Example:
        >>> column("pcc@gaze")
        Column(metric='pcc', smoothing='gaze')
    """
    metric, _, smoothing = name.partition("@")
    return Column(metric, smoothing or "none")


def metric_of(name: str) -> Metric:
    """The metric of a column, with a title that says how the maps were smoothed.

    Example:
        >>> metric_of("kl_divergence@gaze").title, metric_of("pcc@12").title
        ('KL, blurred', 'PCC, 12 px')
    """
    metric, smoothing = column(name)
    titles = {"none": "", "gaze": ", blurred", "fit": ", fitted"}
    return dataclasses.replace(
        METRICS[metric], title=METRICS[metric].title + titles.get(smoothing, f", {smoothing} px")
    )


def columns_of(metrics: tuple[str, ...], smooth: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of a run: every metric against gaze for every smoothing, the others once.

    What the network makes of a map is asked of the map as it is: blurring it would be another explanation.

    Args:
        metrics: names in `METRICS`.
        smooth: "none", "gaze", "fit" or numbers of pixels.

    Example:
        >>> [column.name for column in columns_of(("pcc", "insertion"), ("none", "gaze"))]
        ['pcc', 'pcc@gaze', 'insertion']
    """
    return tuple(
        Column(metric, smoothing)
        for metric in metrics
        for smoothing in (smooth if METRICS[metric].against == "gaze" else ("none",))
    )


def smoothings(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The smoothings of a command line, each checked and written in one way.

    Raises:
        ValueError: none, one twice, or one that is neither "none", "gaze", "fit" nor a number of pixels.

    Example:
        >>> smoothings(("none", "gaze", "12.0"))
        ('none', 'gaze', '12')
    """
    found = tuple(text if text in ("none", "gaze", "fit") else _pixels(text) for text in wanted)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"smooth: expected none, gaze, fit or numbers of pixels, each once, got {' '.join(wanted)!r}")
    return found


def _pixels(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"smooth: expected none, gaze, fit or a number of pixels, got {text!r}") from None
    check_sigma(number)
    return f"{number:g}"
