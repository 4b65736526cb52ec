"""Tables in text files: columns separated by commas, semicolons or tabs, with or without a header."""

import contextlib
import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

Header = bool | Literal["auto"]

# A file without ends of lines is not read as a whole.
_LONGEST_LINE = 2**20


class NotANumberError(ValueError):
    """A cell that is to be a number, and is none.

    Args:
        message: Names the cell.
        column: The name of its column.
    """

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


@dataclass
class TableFile:
    """An open table.

    Args:
        name: Its name, for messages.
        columns: The names in its header; None if it has none.
        width: Number of columns.
        rows: Yields the number of a line, and its cells without blanks around them; empty lines are left out.
    """

    name: str
    columns: list[str] | None
    width: int
    rows: Iterator[tuple[int, list[str]]]


@contextlib.contextmanager
def open_table(file: str | Path, header: Header) -> Iterator[TableFile]:
    """Open a table; ``-`` is standard input.

    Its columns are separated by what is most frequent in its first line: comma, semicolon or tab.

    Args:
        file: The file, in UTF-8.
        header: Whether its first line has the names of the columns; with "auto" it does if none of them is a number.

    Raises:
        ValueError: If it cannot be read, or is no table: also while its rows are read.
    """
    name, is_stdin = str(file), str(file) == "-"
    try:
        with open(0 if is_stdin else file, newline="", encoding="utf-8-sig", closefd=not is_stdin) as stream:
            rows = _rows(stream, name)
            if (found := next(rows, None)) is None:
                raise ValueError(f"{name} must be a table, and is empty")
            first = found[1]
            has_names = header if isinstance(header, bool) else not any(map(is_number, first))
            if has_names and (twice := next((c for c in first if first.count(c) > 1), None)) is not None:
                raise ValueError(
                    f"{name} must have a name of its own for each column, and has {twice!r} twice; rename one"
                )
            columns = first if has_names else None
            yield TableFile(name, columns, len(first), rows if has_names else itertools.chain([found], rows))
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{name} must be a table as text (CSV, in UTF-8), and is not; save it as such") from None


def _rows(stream: TextIO, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line, and its cells.

    Raises:
        ValueError: If a line has another number of cells than the first.
    """
    first = stream.readline(_LONGEST_LINE)
    delimiter = max(";\t,", key=first.count)  # a line such as "1,5;2,5;a" has decimal commas
    lines = csv.reader(itertools.chain([first], iter(lambda: stream.readline(_LONGEST_LINE), "")), delimiter=delimiter)
    width = None
    for cells in lines:
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        width = len(cells) if width is None else width
        if len(cells) != width:
            rule = f"must have {width} cells, as the first, and has {len(cells)}"
            hint = "; decimals have a point, 1.5, and a cell with a comma is in quotes" if delimiter == "," else ""
            raise ValueError(f"{name}, line {lines.line_num}, {rule}{hint}")
        yield lines.line_num, cells


def is_number(cell: str) -> bool:
    """Return whether a cell is a finite number."""
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def numbers(
    table: TableFile, line: int, cells: Sequence[str], indices: Sequence[int], names: Sequence[str]
) -> list[float]:
    """Return the numbers in some cells of a line.

    Args:
        table: The table.
        line: The number of the line.
        cells: Its cells.
        indices: The places of the numbers.
        names: What a message calls them.

    Raises:
        NotANumberError: If one is missing, no number, or not finite.
    """
    try:
        values = [float(cells[index]) for index in indices]
        if all(map(math.isfinite, values)):
            return values
    except ValueError:
        pass
    index, name = next((i, n) for i, n in zip(indices, names, strict=True) if not is_number(cells[i]))
    cell = cells[index]
    hint = f"; decimals have a point: {cell.replace(',', '.')}" if is_number(cell.replace(",", ".", 1)) else ""
    raise NotANumberError(
        f"{table.name}, line {line}, must have a finite number in column {name}, got {cell[:60]!r}{hint}", name
    )
