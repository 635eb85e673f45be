"""Tables of people's own data: CSV files, and the numbers in their cells."""

import csv
import io
import os
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlfem_jax.data.releases.files import MOST, named, read_text
from mlfem_jax.files import printable


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        line: of the file, from 1.
        cells: by column.
    """

    line: int
    cells: Mapping[str, str]


def read_csv(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a CSV file; none where there is no such file.

    Args:
        path: of the file: UTF-8, commas.
        columns: that it must have, once each.

    Raises:
        ValueError: it is no such file, lacks a column or has one twice, or has a row of another length than the first;
            names the line.
    """
    if not os.path.lexists(path):  # a link that leads nowhere is a table that was lost
        return []
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_columns(names, columns, path)
        rows = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(
            f"{named(path)}, line {reader.line_num}: expected a row of a CSV file, got another ({error})"
        ) from error
    for line, cells in rows:
        if len(cells) != len(names):
            wanted = f"as many values as columns, {len(names)}"
            raise ValueError(f"{named(path)}, line {line}: expected {wanted}, got {len(cells)}: {reprlib.repr(cells)}")
    return [Row(line, dict(zip(names, cells, strict=True))) for line, cells in rows]


def column_names(path: Path) -> list[str]:
    """The names of the columns of a CSV file; none of an empty one.

    Raises:
        ValueError: there is no such file, or it holds no text.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    return [name.strip() for name in next(reader, [])]


def cell_number(row: Row, column: str, path: Path) -> float:
    """A cell as a number; NaN where it is blank, or there is no such column.

    Raises:
        ValueError: it holds something else; names the line.
    """
    cell = row.cells.get(column, "").strip()
    try:
        if "_" in cell:  # which Python takes for a separator of thousands
            raise ValueError
        return float(cell or "nan")
    except ValueError:
        raise ValueError(
            f"{named(path)}, line {row.line}: expected a number as {column}, got {reprlib.repr(cell)}"
        ) from None


def cell_count(row: Row, column: str, path: Path) -> int:
    """A cell as a count; -1 where it is blank or NaN, or there is no such column.

    Raises:
        ValueError: it holds something else; names the line.
    """
    number = cell_number(row, column, path)
    if number != number:
        return -1
    if not 0 <= number <= MOST or number % 1:
        found = reprlib.repr(row.cells[column])
        raise ValueError(f"{named(path)}, line {row.line}: expected a count as {column}, got {found}")
    return int(number)


def _check_columns(names: list[str], columns: tuple[str, ...], path: Path) -> None:
    if missing := set(columns) - set(names):
        found = printable(", ".join(names)[:200]) or "nothing"
        raise ValueError(f"{named(path)}: expected the columns {', '.join(columns)}, got {found}; no {sorted(missing)}")
    if repeated := [name for name, count in Counter(names).items() if name and count > 1]:
        raise ValueError(f"{named(path)}: expected each column once, got {reprlib.repr(repeated[0])} more than once")
