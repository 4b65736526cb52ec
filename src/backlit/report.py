"""``backlit-report``: sums up a sweep, or compares any runs, from what their directories hold."""

import argparse
import csv
import io
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box, get_console
from rich.console import Console
from rich.table import Table

from backlit.entries import Entry, best_values, find_runs, over_seeds, ranked, sweep_entries
from backlit.run import brief, from_here, new_directory, quoted, read_sweep, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows that a console gets; the files have all.
MOST_ROWS = 50


def sum_up(sweep_dir: Path) -> bool:
    """Print the summary of a sweep, and write it as ``sweep.csv``, ``sweep.md`` and ``sweep.png``.

    Returns:
        Whether all its jobs are completed.

    Raises:
        ValueError: If ``sweep.json`` is not what a sweep writes.
    """
    entries, problems = sweep_entries(sweep_dir)
    entries = ranked(entries)
    columns, rows = tabulate(entries, "job")
    means = over_seeds(entries)
    advice = [*_means(means), *_advice(sweep_dir, entries, means)]
    _show(f"sweep {from_here(sweep_dir)}", columns, rows)
    for line in [*(f"  left out  {problem}" for problem in problems), *advice]:
        get_console().print(line, markup=False, highlight=False, soft_wrap=True)
    try:
        _write_tables(sweep_dir, "sweep", columns, rows, advice)
        if any(entry.best for entry in entries):
            from backlit.report_pictures import draw_sweep

            _save(draw_sweep(entries), sweep_dir / "sweep.png")
    except OSError as error:
        print(f"error: the summary cannot be written into {sweep_dir}: {error.strerror}", file=sys.stderr)
    return not problems and all(entry.status == "completed" for entry in entries)


def compare(entries: list[Entry], output: Path) -> None:
    """Print runs side by side; write that and their curves into a directory."""
    from backlit.report_pictures import draw_curves

    entries = ranked(entries)
    columns, rows = tabulate(entries, "run")
    _show(f"{len(entries)} runs", columns, rows)
    output = new_directory(output)
    _write_tables(output, "report", columns, rows, [])
    _save(draw_curves(entries), output / "report.png")
    print(f"  written   {from_here(output)}/report.csv, report.md, report.png")


def tabulate(entries: Sequence[Entry], kind: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and a row of text for each entry."""
    settings = list(dict.fromkeys(key for entry in entries for key in entry.settings))
    metrics = list(dict.fromkeys(entry.run.metric[0] for entry in entries if entry.run and entry.run.metric[0]))
    tested = [f"test/{name}" for name in ("acc", "loss")]
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
        took = "" if entry.duration is None else f"{entry.duration:.1f}"
        own = [entry.settings.get(key, "") for key in settings]
        rows.append(
            [entry.name, *own, entry.status, *values, *epoch, *numbers, took, from_here(entry.directory), entry.error]
        )
    return columns, rows


def _means(groups: dict[tuple[tuple[str, str], ...], list[Entry]]) -> list[str]:
    """Return a line for each group: mean and standard deviation over its seeds."""
    lines = []
    for settings, entries in groups.items():
        values = best_values(entries)
        said = brief(" ".join(f"{key}={value}" for key, value in settings)) or "all"
        spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
        lines.append(f"  mean      {said}  {statistics.mean(values):.5g}{spread}  (n = {len(values)})")
    return lines


def _advice(
    sweep_dir: Path, entries: Sequence[Entry], means: dict[tuple[tuple[str, str], ...], list[Entry]]
) -> list[str]:
    """Return what to know and type next: the failures, the best job, how to go on."""
    lines = []
    for entry in entries:
        if entry.status == "failed":
            log = next(entry.directory.glob("*.log"), entry.directory)
            said = brief(" ".join(f"{key}={value}" for key, value in entry.settings.items()))
            lines.append(f"  failed    job {entry.name} {said}: {entry.error}; see {from_here(log)}")
    done = [entry for entry in entries if entry.best and entry.status == "completed"]
    metrics = list(dict.fromkeys(entry.run.metric[0] for entry in done if entry.run))
    for metric in metrics:
        best = next(entry for entry in done if entry.run and entry.run.metric[0] == metric)
        if means:  # not the luckiest seed of all, but the best of those that are best on average
            best = next(iter(means.values()))[0]
        by = f"   (by {metric})" if len(metrics) > 1 else ""
        arguments = shlex.join(best.run.record.get("overrides", [])) if best.run else ""
        lines.append(f"  the best  backlit-evaluate run={as_value(best.directory)}{by}")
        lines.append(f"  again     backlit-train {arguments}")
    recorded = read_sweep(sweep_dir)["jobs"]
    open_jobs = len(recorded) - sum(entry.status in ("completed", "running") for entry in entries)
    if recorded and open_jobs:
        lines.append(f"  go on     backlit-train -m resume={from_here(sweep_dir)}   ({open_jobs} not completed)")
    lines.append(f"  curves    tensorboard --logdir {from_here(sweep_dir)}")
    return lines


def as_value(path: Path) -> str:
    """Return a path as a value of a Hydra override that may be typed in the working directory."""
    typed = shlex.split(from_here(path))[0]
    is_plain = all(character.isalnum() or character in "/-+._" for character in typed)
    return typed if is_plain else shlex.quote(quoted(typed))


def _show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; what the terminal is too narrow for is in the file."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    shown = [index for index, name in enumerate(columns) if name not in ("directory", "error")]
    for index in shown:
        table.add_column(columns[index], justify="left" if index == 0 else "right", overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*(brief(row[index]) for index in shown))
    text = io.StringIO()
    # A file or a pipe has no width.
    Console(file=text, width=get_console().width if get_console().is_terminal else 1000).print(table)
    print("\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip()))
    if len(rows) > MOST_ROWS:
        print(f"  and {len(rows) - MOST_ROWS} more, in the file")


def _write_tables(directory: Path, name: str, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    _write(directory / f"{name}.csv", text.getvalue())

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"

    table = line(columns) + line("---" for _ in columns) + "".join(line(row) for row in rows)
    below = "\n```\n" + "\n".join(note.strip() for note in notes) + "\n```\n" if notes else ""
    _write(directory / f"{name}.md", table + below)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text)


def _save(figure: "Figure", path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def main() -> None:
    """Run ``backlit-report``."""
    parser = argparse.ArgumentParser(
        prog="backlit-report",
        description="Sums up a sweep (sweep.csv, sweep.md, sweep.png in its directory), or compares runs and sweeps.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a sweep, a run, or a directory of them")
    parser.add_argument(
        "--output", type=Path, help="directory of a comparison's files, by default outputs/reports/<date>_<time>"
    )
    arguments = parser.parse_args()
    try:
        report(arguments.paths, arguments.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def report(paths: Sequence[Path], output: Path | None = None) -> None:
    """Sum up a sweep, or compare runs.

    Args:
        paths: One sweep's directory; or any directories with runs in or below them.
        output: Where a comparison is written; None for a new directory under ``outputs/reports``.

    Raises:
        ValueError: If there is no run.
    """
    for path in paths:
        if not path.is_dir():
            raise ValueError(
                f"PATH must be a directory, got {path}, which {'is a file' if path.exists() else 'does not exist'}"
            )
    if (
        len(paths) == 1
        and output is None
        and any((paths[0] / name).exists() for name in ("sweep.json", "multirun.yaml"))
    ):
        sum_up(paths[0])
        return
    entries, problems = find_runs(paths)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not entries:
        there = sorted(path.name for parent in paths for path in parent.iterdir())
        listed = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "") if there else "nothing"
        raise ValueError(f"no run.json in or below {', '.join(map(str, paths))}; there is {listed}")
    compare(entries, output or Path("outputs", "reports", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"))


if __name__ == "__main__":
    main()
