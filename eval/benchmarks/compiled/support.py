"""What compiles for which device, as a table in Markdown, and why the rest does not."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlfem_jax.report import markdown_table

_COUNTED = ("peak_mib", "loops", "collectives", "host_callbacks")


def support_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was compiled, and for each target its peak memory, loops, collectives and callbacks; a line for equal ones.

    Args:
        rows: of one network, of any number of targets; "error" in a row is why it did not compile.

    Returns:
        The table, and a list of what did not compile; a line break at its end.

    Example:
        >>> print(support_table([{"what": "lime", "target": "h100", "error": "ValueError: no device"}]), end="")
        | what | h100: peak MiB | loops | collectives | host callbacks |
        |---|---|---|---|---|
        | lime | does not compile | - | - | - |
        <BLANKLINE>
        - lime, h100: ValueError: no device
    """
    targets = list(dict.fromkeys(row["target"] for row in rows))
    found = {(row["what"], row["target"]): row for row in rows}
    header = [name for target in targets for name in (f"{target}: peak MiB", "loops", "collectives", "host callbacks")]
    equal: dict[tuple[str, ...], list[str]] = {}
    for work in dict.fromkeys(row["what"] for row in rows):
        cells = tuple(cell for target in targets for cell in _cells(found.get((work, target))))
        equal.setdefault(cells, []).append(work)
    lines = [[", ".join(works), *cells] for cells, works in equal.items()]
    failed = [f"- {row['what']}, {row['target']}: {row['error']}" for row in rows if "error" in row]
    return "\n".join([markdown_table(["what", *header], lines), *(["", *failed] if failed else [])]) + "\n"


def _cells(row: Mapping[str, Any] | None) -> list[str]:
    if row is None or "error" in row:
        return ["not tried" if row is None else "does not compile", "-", "-", "-"]
    return [_cell(row[name]) for name in _COUNTED]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items()) or "0"
    return "?" if value is None else f"{value:,.0f}"
