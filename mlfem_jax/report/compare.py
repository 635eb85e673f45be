"""Two tables of scores side by side, image by image: before and after, or two networks.

mlfem compare BEFORE AFTER --out comparison.csv
"""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from mlfem_jax.files import keep_record, printable, refuse_foreign
from mlfem_jax.report.tables import write_csv
from mlfem_jax.scores import Change, changes, load, metric_of


def compare(
    before: Annotated[Path, tyro.conf.Positional],
    after: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    out: Path | None = None,
    resamples: int = 9999,
) -> None:
    """Compares two tables of scores: every method and metric that both have, over the images that both have.

    Args:
        before: a folder that `mlfem score` wrote.
        after: another one.
        out: a CSV file to write.
        resamples: of the bootstrap.

    Raises:
        ValueError: the tables share no image, or no method and metric.
        OSError: there are none; or `out` is there, and no earlier comparison wrote it.
    """
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    if out is not None:
        refuse_foreign(out.parent, [out.name])
    found = changes(load(before), load(after), resamples=resamples)
    shown = Table("metric", "method", "images", "before", "after", "after - before", "better on", "p (Holm)")
    for change in found:
        effect = change.effect
        shown.add_row(
            metric_of(change.metric).title,
            change.method,
            str(effect.images),
            f"{change.before:.3f}",
            f"{change.after:.3f}",
            f"{effect.difference:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]",
            f"{effect.superiority:.0%} [{effect.superiority_low:.0%}, {effect.superiority_high:.0%}]",
            f"{change.p:.2g}",
        )
    Console().print(shown)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        keep_record(out.parent)
        rows = [(c.metric, c.method, c.before, c.after, c.p, *c.effect) for c in found]
        write_csv(out, (*Change._fields[:-1], *found[0].effect._fields), rows)
        print(printable(str(out)))
