"""Tables in Markdown."""

from collections.abc import Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown, without a line break at its end.

    Args:
        header: of the columns.
        rows: cells of each line; shown by `str`.

    Returns:
        Lines joined by line breaks; the header alone where there are no rows.

    Raises:
        ValueError: a row has more or fewer cells than the header.

    Example:
        >>> print(markdown_table(["fusion", "PCC"], [["add", 0.5]]))
        | fusion | PCC |
        |---|---|
        | add | 0.5 |
    """
    wrong = [row for row in rows if len(row) != len(header)]
    if wrong:
        raise ValueError(f"rows: expected {len(header)} cells in each, got {len(wrong[0])}")
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])
