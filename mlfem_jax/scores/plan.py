"""What is scored, and how: the settings of a table of scores."""

import ast
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from mlfem_jax.attribution import Method, method
from mlfem_jax.gaze import DensityFit, FitRule, check_sigma
from mlfem_jax.scores.columns import Column, columns_of, metric_names, smoothings
from mlfem_jax.scores.stored import StoredMaps

Task: TypeAlias = Literal["single", "multi"]
HUMANS = "humans"  # one half of the observers as a map for the other half
OBSERVERS = "observers"  # all other observers as a map for each of them: the gold standard
PRIOR = "others"  # where people look on the other images: the center bias
PEOPLE = (HUMANS, OBSERVERS, PRIOR)
"""The rows that are no methods."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is scored, and how: all that decides the numbers, beside the network and the images. Hashable.

    Attributes:
        methods: (name in the table, method), in the order of the table.
        metrics: names in `METRICS`.
        sigma_px: standard deviation of the Gaussian on each fixation, in pixels of the photograph; of recordings one
            for each axis of an event, in samples.
        task: "single", a prediction is correct where the class of the highest logit is a label; "multi", where every
            class present has a sigmoid above 0.5.
        humans: whether one half of the observers is scored against the other, as if it were a method.
        observers: numbers of the observers whose gaze is predicted by the others', one after the other, and by the
            gaze on the other images: two more rows; 0 leaves them out.
        compare_in: where maps and gaze are compared: "input", of the network; or "photo", the photograph's own pixels.
        rule: how photographs get into the frame of the network's input.
        bars: whether the bars that pad a photograph are scored too.
        smooth: how maps are smoothed before they are compared with gaze, each a column: "none", "gaze", by the sigma of
            the GFDM; "fit", made a density by the method's own fit; or a number of pixels of the photograph. The
            humans' map, a density already, never is.
        fits: of each method, for "fit"; their sigma is a share of the photograph's height.
        target: what the methods of a class explain, and the model's metrics ask for: None, the predicted class; a
            class; several, a tuple; or a function of one example's logits, such as `backbones.Contrast`.
        map_size: side in pixels of the small maps that are kept for the report; 0 keeps none.
        dtype: of the forward pass.
    """

    methods: tuple[tuple[str, Method | StoredMaps], ...]
    metrics: tuple[str, ...]
    sigma_px: float | tuple[float, ...]
    task: Task = "single"
    humans: bool = False
    observers: int = 0
    compare_in: Literal["input", "photo"] = "input"
    rule: FitRule = "stretch"
    bars: bool = False
    smooth: tuple[str, ...] = ("none",)
    fits: tuple[DensityFit, ...] = ()
    target: int | tuple[int, ...] | Callable[..., Any] | None = None
    map_size: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Checks the names and numbers."""
        if metric_names(self.metrics) != self.metrics or len(set(self.rows)) < len(self.rows):
            raise ValueError(f"methods and metrics: expected each of them once, got {self.rows} and {self.metrics}")
        if not self.methods:
            raise ValueError("methods: expected at least one, got none")
        if raw := [name for name, method in self.methods if dict(method.options).get("raw")]:
            raise ValueError(f"methods: expected maps of the frame, not raw ones of a layer's size, got {raw[0]!r}")
        for sigma in self.sigma_px if isinstance(self.sigma_px, tuple) else [self.sigma_px]:
            check_sigma(sigma)
        if "fit" in self.smooth and len(self.fits) != len(self.methods):
            raise ValueError("fits: expected a file of fits for smooth fit, got none")
        if smoothings(self.smooth) != self.smooth:
            raise ValueError(f"smooth: expected {smoothings(self.smooth)}, got {self.smooth}")
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype: expected float32, bfloat16 or float16, got {self.dtype!r}")
        if self.map_size < 0:
            raise ValueError(f"map_size: expected at least 0, got {self.map_size}")

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows of an image."""
        return tuple(name for name, _ in self.methods) + self.people

    @property
    def people(self) -> tuple[str, ...]:
        """Those that are no methods."""
        return ((HUMANS,) if self.humans else ()) + ((OBSERVERS, PRIOR) if self.observers else ())

    @property
    def columns(self) -> tuple[Column, ...]:
        """The scores of a row, in their order."""
        return columns_of(self.metrics, self.smooth)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Their names in the table."""
        return tuple(column.name for column in self.columns)


def parse_method(text: str, *, rule: FitRule = "stretch") -> Method | StoredMaps:
    """A method and its options from the command line.

    Args:
        text: a name, or "name:option=value,option=value"; a value is a Python literal, or else taken as text. Or
            "maps:FOLDER", maps that are read from files.
        rule: how photographs, and the maps of such files, get into the frame.

    Raises:
        ValueError: unknown method or option, or no "=".

    Example:
        >>> parse_method("add:alpha=0.3").options
        (('alpha', 0.3),)
    """
    name, _, rest = text.partition(":")
    if name == "maps":
        if not rest:
            raise ValueError(f"method {text!r}: expected a folder of maps after the colon, got none")
        return StoredMaps(rest, rule)
    options = {}
    for pair in filter(None, rest.split(",")):
        option, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"method {text!r}: expected option=value after the colon, got {pair!r}")
        try:
            options[option] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[option] = value
    return method(name, **options)
