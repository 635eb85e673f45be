"""What a trainer shows on the terminal while it runs."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mlfem_jax.parallel import is_first

_STEPS = 20


def training_progress() -> Progress:
    """On stderr: what, a bar, how many, the newest loss and speed, and how long still; of the first process alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}"))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not is_first())


def loss_line(bar: Progress, row: TaskID, images: int) -> Callable[[int, float], None]:
    """The `on_loss` of `training.train`: shows the loss, and the speed over the newest steps of so many images."""
    latest = [time.perf_counter()]

    def on_loss(step: int, loss: float) -> None:
        latest.append(time.perf_counter())
        rate = (len(latest) - 1) * images / (latest[-1] - latest[0])
        bar.update(row, completed=step, shown=f"loss {loss:.3f}, {rate:.0f} images/s")
        del latest[:-_STEPS]

    return on_loss
