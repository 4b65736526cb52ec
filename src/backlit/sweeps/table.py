"""Entries as a table: on the console, as CSV and as Markdown."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box, get_console
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from backlit.runs.files import atomic_write
from backlit.sweeps.entries import Entry
from backlit.text import printable, shell_path, shorten_numbers

# Rows on the console; the files contain all.
MAX_CONSOLE_ROWS = 50
_FILE_ONLY = ("directory", "error")


def tabulate(entries: Sequence[Entry], kind: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and one row of text per entry.

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
    rows = []
    for entry in entries:
        found = entry.run.metrics if entry.run else {}
        values = [
            f"{entry.best[0]:.5g}" if entry.best and entry.run and entry.run.metric[0] == name else ""
            for name in metrics
        ]
        epoch = [f"{entry.best[1]:.0f}" if entry.best else ""] if best else []
        numbers = [f"{found[name]:.5g}" if name in found else "" for name in tested]
        took = "" if entry.duration_s is None else f"{entry.duration_s:.1f}"
        own = [entry.settings.get(key, "") for key in settings]
        directory = printable(shell_path(entry.directory))
        rows.append([entry.name, *own, entry.status, *values, *epoch, *numbers, took, directory, entry.error])
    return columns, rows


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table without directories, errors, and the last settings that do not fit; the files contain them."""
    # A file or a pipe has no width.
    width = get_console().width if get_console().is_terminal else 1000
    cells = [[printable(name) for name in columns]]
    cells += [[shorten_numbers(printable(cell)) for cell in row] for row in rows[:MAX_CONSOLE_ROWS]]
    shown = _fitting_columns(columns, cells, width)
    table = Table(title=printable(title), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for index in shown:
        table.add_column(cells[0][index], justify="left" if index == 0 else "right", overflow="fold")
    for row in cells[1:]:
        table.add_row(*(row[index] for index in shown))
    text = io.StringIO()
    Console(file=text, width=width, markup=False, emoji=False, highlight=False).print(table)
    print("\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip()))
    if len(rows) > MAX_CONSOLE_ROWS:
        print(f"  and {len(rows) - MAX_CONSOLE_ROWS} more, in the file")
    if left_out := [name for index, name in enumerate(cells[0]) if index not in shown and name not in _FILE_ONLY]:
        print(f"  too wide for this terminal, in the file: {', '.join(left_out)}")


def _fitting_columns(columns: list[str], cells: list[list[str]], width: int) -> list[int]:
    """Return the indices of the columns to print: settings are left out, from the last, until the others fit.

    Args:
        columns: The names, as `tabulate` returns them: settings are between the first and ``status``.
        cells: The header and the rows as they are printed.
        width: Columns of the terminal.
    """
    shown = [index for index, name in enumerate(columns) if name not in _FILE_ONLY]
    widths = {index: 1 + max(cell_len(row[index]) for row in cells) for index in shown}
    widths[0] = min(widths[0], width // 3)  # names of runs are folded
    settings = list(range(1, columns.index("status"))) if "status" in columns else []
    while settings and sum(widths[index] for index in shown) + 1 > width:
        shown.remove(settings.pop())
    return shown


def write_tables(directory: Path, name: str, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
    """Write a table as ``name.csv`` and ``name.md``, the latter with notes below it.

    Raises:
        OSError: If a file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with atomic_write(directory / f"{name}.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")
    with atomic_write(directory / f"{name}.md") as temporary:
        temporary.write_text(_markdown(columns, rows, notes), encoding="utf-8", errors="backslashreplace")


def _markdown(columns: list[str], rows: list[list[str]], notes: list[str]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"

    table = line(columns) + line("---" for _ in columns) + "".join(line(row) for row in rows)
    below = "\n```\n" + "\n".join(printable(note.strip()) for note in notes) + "\n```\n" if notes else ""
    return table + below
