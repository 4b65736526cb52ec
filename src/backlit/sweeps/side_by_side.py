"""A comparison of any runs: a ranked table and their curves in one figure."""

from collections.abc import Sequence
from pathlib import Path

from backlit.runs.files import new_directory, remove_directories
from backlit.sweeps.entries import Entry
from backlit.sweeps.picture import write_picture
from backlit.sweeps.ranking import rank_entries
from backlit.sweeps.table import print_table, tabulate, write_tables
from backlit.text import printable, shell_path

# A longer label would leave no room for the curves.
_MAX_LABEL_CHARACTERS = 80


def compare_runs(entries: Sequence[Entry], output: Path) -> None:
    """Print a table of runs; write it and their curves into a new directory.

    Args:
        entries: The runs.
        output: The directory; if it exists, ``output_2`` and so on.

    Raises:
        OSError: If a file cannot be written.
    """
    entries = rank_entries(entries)
    columns, rows = tabulate(entries, "run")
    print_table(f"{len(entries)} runs", columns, rows)
    made: list[Path] = []
    output = new_directory(output, made)
    try:
        _write(output, columns, rows, entries)
    except OSError:
        remove_directories(made)
        raise
    written = sorted(path.name for path in output.iterdir())
    print(printable(f"  written   {shell_path(output / written[0])}, {', '.join(written[1:])}"))


def _write(output: Path, columns: list[str], rows: list[list[str]], entries: Sequence[Entry]) -> None:
    """Write the table and the curves."""
    from backlit.plots.overlaid_curves import draw_overlaid_curves

    write_tables(output, "report", columns, rows, [])
    runs = [(entry, entry.run) for entry in entries if entry.run and entry.run.rows]
    curves = [(_curve_label(entry), run.rows) for entry, run in runs]
    metric = runs[0][1].metric[0] if runs else ""
    write_picture(output / "report.png", lambda: draw_overlaid_curves(curves, metric))


def _curve_label(entry: Entry) -> str:
    """Return a run's settings, or its name if it has none or too many for a legend."""
    label = entry.label if 0 < len(entry.label) < _MAX_LABEL_CHARACTERS else entry.name
    # A directory's name may be no UTF-8, which fonts need.
    return label[:_MAX_LABEL_CHARACTERS].encode(errors="backslashreplace").decode()
