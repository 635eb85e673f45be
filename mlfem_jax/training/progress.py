"""What a trainer shows on the terminal while it runs."""

import collections
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mlfem_jax.parallel import is_first

_STEPS = 20


def training_progress() -> Progress:
    """On stderr: what, a bar, how many, the newest loss and speed, and how long still; of the first process alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}"))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not is_first())


def loss_line(bar: Progress, row: TaskID, images: int) -> Callable[[int, jax.Array], None]:
    """The `on_loss` of `train`: shows the newest loss that is finished, and the speed; never waits for the device.

    Args:
        bar: to show it in.
        row: of the bar.
        images: in a step, for the speed over the newest steps.
    """
    waiting: collections.deque[tuple[int, jax.Array]] = collections.deque()
    seen: collections.deque[tuple[int, float]] = collections.deque(maxlen=_STEPS)

    def on_loss(step: int, loss: jax.Array) -> None:
        waiting.append((step, loss))
        finished = None
        while waiting and waiting[0][1].is_ready():  # pyrefly: ignore[missing-attribute]
            finished = waiting.popleft()
        if finished is None:
            return
        seen.append((finished[0], time.perf_counter()))
        (first, then), (last, now) = seen[0], seen[-1]
        speed = f", {(last - first) * images / (now - then):.0f} images/s" if now > then else ""
        bar.update(row, completed=last, shown=f"loss {float(finished[1]):.3f}{speed}")

    return on_loss


def shown_scores(found: Mapping[str, Any]) -> str:
    """A line of scores for people.

    Example:
        >>> shown_scores({"step": 8, "loss": 0.5, "top_1": 0.25})
        'loss 0.5000, top 1 0.2500'
    """
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in numbers.items())
