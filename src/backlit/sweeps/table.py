"""Entries as a table: on the console, as CSV and as Markdown."""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from backlit.runs.files import atomic_write
from backlit.sweeps.entries import Entry
from backlit.text import metric_text, printable, shell_path, shorten_numbers, terminal_width, text_table

# Rows on the console; the files contain all.
MAX_CONSOLE_ROWS = 50
_FILE_ONLY = ("directory", "error")
# Columns that a narrow terminal leaves out first.
_DISPENSABLE = ("seconds", "test/loss", "test_loss", "epoch")

Cells = Sequence[str | float]


def tabulate(entries: Sequence[Entry], kind: str) -> tuple[list[str], list[Cells]]:
    """Return the names of the columns and one row per entry: texts, and metrics as numbers.

    Args:
        entries: The entries, in the order of the rows.
        kind: The name of the first column, which contains the entries' names.
    """
    settings = list(dict.fromkeys(key for entry in entries for key in entry.settings))
    metrics = list(dict.fromkeys(entry.run.metric[0] for entry in entries if entry.run and entry.run.metric[0]))
    tested = ["test/acc", "test/loss", "test_acc", "test_loss"]
    tested = [name for name in tested if any(entry.run and name in entry.run.metrics for entry in entries)]
    best = [f"best {name}" for name in metrics]
    columns = [kind, *settings, "status", *best, *(["epoch"] if best else []), *tested, "seconds", "directory", "error"]
    rows: list[Cells] = []
    for entry in entries:
        found = entry.run.metrics if entry.run else {}
        values = [entry.best[0] if entry.best and entry.run and entry.run.metric[0] == name else "" for name in metrics]
        epoch = [f"{entry.best[1]:.0f}" if entry.best else ""] if best else []
        numbers = [found.get(name, "") for name in tested]
        took = "" if entry.duration_s is None else f"{entry.duration_s:.1f}"
        own = [entry.settings.get(key, "") for key in settings]
        directory = printable(shell_path(entry.directory))
        rows.append([entry.name, *own, entry.status, *values, *epoch, *numbers, took, directory, entry.error])
    return columns, rows


def _text(cell: str | float) -> str:
    return printable(cell if isinstance(cell, str) else metric_text(cell))


def print_table(title: str, columns: list[str], rows: Sequence[Cells], common: Sequence[str] = ()) -> None:
    """Print a table without directories and errors, and without what does not fit; the files contain all.

    Args:
        title: The line above it.
        columns: The names, as `tabulate` returns them: settings are between the first and ``status``.
        rows: The rows.
        common: What all rows have in common, ``key=value``, which is printed above it.
    """
    width = terminal_width()
    cells = [[shorten_numbers(_text(cell)) for cell in row] for row in rows[:MAX_CONSOLE_ROWS]]
    header, shown = _fit_columns([printable(name) for name in columns], cells, width)
    print(printable(title))
    indents: Any = {"initial_indent": "  all with  ", "subsequent_indent": " " * 12}
    words = printable(" ".join(common))
    print(*textwrap.wrap(words, width, **indents, break_on_hyphens=False), sep="\n", end="\n" if words else "")
    print(text_table([header[index] for index in shown], [[row[index] for index in shown] for row in cells]))
    if len(rows) > MAX_CONSOLE_ROWS:
        print(f"  and {len(rows) - MAX_CONSOLE_ROWS} more, in the file")
    left_out = [name for index, name in enumerate(columns) if index not in shown and name not in _FILE_ONLY]
    if left_out:
        print(f"  too wide for this terminal, in the file: {printable(', '.join(left_out))}")


def _fit_columns(columns: list[str], cells: list[list[str]], width: int) -> tuple[list[str], list[int]]:
    """Return the header, and the indices of the columns to print.

    If a line is too short, settings are named by the last part of their keys; then some columns are left out, and then
    settings, from the last, until the others fit.

    Args:
        columns: The names.
        cells: The rows as they are printed.
        width: Columns of the terminal.
    """
    shown = [index for index, name in enumerate(columns) if name not in _FILE_ONLY]

    def is_too_wide() -> bool:
        widths = [2 + max(cell_len(row[index]) for row in [columns, *cells]) for index in shown]
        return min(widths[0], width // 3) + sum(widths[1:]) + 2 > width  # names of runs are folded

    settings = range(1, columns.index("status")) if "status" in columns else range(0)
    if is_too_wide():
        last = [columns[index].rpartition(".")[2] for index in settings]
        for index, name in zip(settings, last, strict=True):
            if last.count(name) == 1:
                columns = [*columns[:index], name, *columns[index + 1 :]]
    droppable = [*settings, *(index for index in shown if columns[index] in _DISPENSABLE)]
    while droppable and is_too_wide():
        shown.remove(droppable.pop())
    return columns, shown


def write_tables(directory: Path, name: str, columns: list[str], rows: Sequence[Cells], notes: list[str]) -> None:
    """Write a table as ``name.csv`` and ``name.md``, the latter with notes below it.

    Raises:
        OSError: If a file cannot be written.
    """
    write_csv(directory / f"{name}.csv", columns, rows)
    with atomic_write(directory / f"{name}.md") as temporary:
        temporary.write_text(markdown(columns, rows, notes), encoding="utf-8", errors="backslashreplace")


def write_csv(path: Path, columns: list[str], rows: Sequence[Cells]) -> None:
    """Write a table as CSV, metrics in full.

    Raises:
        OSError: If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")


def markdown(columns: list[str], rows: Sequence[Cells], notes: list[str]) -> str:
    """Return a table as Markdown, without empty columns, with notes below it."""

    def line(cells: Iterable[str | float]) -> str:
        return f"| {' | '.join(_text(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"

    filled = [index for index in range(len(columns)) if any(row[index] != "" for row in rows)]
    chosen = [[row[index] for index in filled] for row in [columns, *rows]]
    table = line(chosen[0]) + line("---" for _ in filled) + "".join(line(row) for row in chosen[1:])
    below = "\n```\n" + "\n".join(printable(note.strip()) for note in notes) + "\n```\n" if notes else ""
    return table + below
