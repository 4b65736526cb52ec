"""The summary of a sweep: a ranked table, a picture, and the next commands."""

import contextlib
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import get_console

from backlit.config.machine import cpu_threads
from backlit.runs.commands import evaluate_command, repeat_command, resume_command, search_command
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.edge import find_edges, tried_in_grid
from backlit.sweeps.entries import Entry, settings_label, sweep_entries
from backlit.sweeps.picture import write_picture
from backlit.sweeps.ranking import SEED_KEYS, best_entry, best_values, group_by_settings, rank_entries
from backlit.sweeps.search_summary import drawn_from, importance_lines, is_search, write_history
from backlit.sweeps.table import print_table, tabulate, write_tables
from backlit.text import metric_text, printable, shell_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def summarize_sweep(sweep_dir: Path) -> bool:
    """Print the summary of a sweep, and write it as ``sweep.csv``, ``sweep.md`` and ``sweep.png``.

    Returns:
        Whether it is done, see `_is_done`.
    """
    return summarize_entries(sweep_dir, *sweep_entries(sweep_dir))


def summarize_entries(sweep_dir: Path, entries: Sequence[Entry], problems: Sequence[str]) -> bool:
    """Print and write the summary of a sweep from its entries; return whether it is done.

    Args:
        sweep_dir: The sweep.
        entries: Its jobs.
        problems: One line per job that cannot be read.
    """
    entries = rank_entries(entries)
    columns, rows = tabulate(entries, "job")
    groups = group_by_settings(entries)
    notes = [*_means(groups), *_failures(entries)]
    if is_search(sweep_dir):
        notes += importance_lines(sweep_dir)
    notes += _commands(sweep_dir, entries)
    print_table(f"sweep {shell_path(sweep_dir)}", columns, rows)
    for line in [*(f"  left out  {problem}" for problem in problems), *notes]:
        get_console().print(printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True)
    try:
        write_tables(sweep_dir, "sweep", columns, rows, notes)
        _write_picture(sweep_dir / "sweep.png", entries)
        if is_search(sweep_dir):
            write_history(sweep_dir)
    except OSError as error:
        print(printable(f"error: the summary cannot be written into {sweep_dir}: {error.strerror}"), file=sys.stderr)
    return not problems and _is_done(sweep_dir, entries)


def _is_done(sweep_dir: Path, entries: Sequence[Entry]) -> bool:
    """Return whether all jobs of a grid are completed; of a search, whether none is open and one is completed."""
    statuses = {entry.status for entry in entries}
    return statuses <= _ended_statuses(sweep_dir) and ("completed" in statuses or not entries)


def _ended_statuses(sweep_dir: Path) -> set[str]:
    """Return the statuses of jobs that are not run again when a sweep resumes: a failed trial is a result, too."""
    return {"completed", "pruned", "failed"} if is_search(sweep_dir) else {"completed"}


def _means(groups: dict[tuple[tuple[str, str], ...], list[Entry]]) -> list[str]:
    """Return one line per group: mean and standard deviation over its seeds."""
    lines = []
    for settings, entries in groups.items():
        values = best_values(entries)
        label = settings_label(settings) or "all"
        spread = f" ± {deviation(values):.2g}" if len(values) > 1 else ""
        lines.append(f"  mean      {label}  {metric_text(statistics.mean(values))}{spread}  (n = {len(values)})")
    return lines


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of at least two values; infinity if float64 cannot hold it."""
    try:
        return statistics.stdev(values)
    except OverflowError:
        return math.inf


def _failures(entries: Sequence[Entry]) -> list[str]:
    """Return one line per failed job: the error and the path of the log."""
    lines = []
    for entry in entries:
        if entry.status == "failed":
            log = next(entry.directory.glob("*.log"), entry.directory)
            see = printable(shell_path(log))
            lines.append(f"  failed    job {entry.name} {entry.label}: {entry.error}; see {see}")
    return lines


def _commands(sweep_dir: Path, entries: Sequence[Entry]) -> list[str]:
    """Return the next commands: evaluate and repeat the best job, go beyond an edge, resume, view the curves."""
    lines = []
    completed = [entry for entry in entries if entry.best and entry.status == "completed"]
    metrics = list(dict.fromkeys(entry.run.metric[0] for entry in completed if entry.run))
    for metric in metrics:
        best = best_entry([entry for entry in entries if entry.run and entry.run.metric[0] == metric])
        assert best is not None
        by = f"   # by {metric}" if len(metrics) > 1 else ""
        lines.append(f"  the best  {evaluate_command(best.directory)}{by}")
        if best.run:
            # Another number of threads gives other last digits, and in the end other weights.
            threads = best.run.record.get("threads")
            limit = f"OMP_NUM_THREADS={threads} " if isinstance(threads, int) and threads != cpu_threads() else ""
            lines.append(f"  repeat    {limit}{repeat_command(best.run)}")
    record: dict[str, Any] = {"jobs": []}
    with contextlib.suppress(ValueError):  # that it cannot be read is said already
        record = read_sweep(sweep_dir)
    recorded = record["jobs"]
    if len(metrics) == 1 and (best := best_entry(entries)) and recorded:
        lines += _beyond_edges(sweep_dir, entries, best, record.get("arguments", []))
    open_jobs = len(recorded) - sum(entry.status in {*_ended_statuses(sweep_dir), "running"} for entry in entries)
    if recorded and open_jobs:
        first = next((entry.directory for entry in entries if entry.run), sweep_dir)
        resume = resume_command(sweep_dir, record.get("arguments", []), is_sweep=True, parts_of=first)
        lines.append(f"  resume    {resume}   # {open_jobs} not completed")
    if any((entry.directory / "tensorboard").exists() for entry in entries):
        lines.append(f"  curves    tensorboard --logdir {shell_path(sweep_dir)}")
    return [printable(line) for line in lines]


def _beyond_edges(sweep_dir: Path, entries: Sequence[Entry], best: Entry, arguments: Sequence[str]) -> list[str]:
    """Return a line per key whose best value lies at the edge of what was tried, with the command for what is beyond.

    Args:
        sweep_dir: The sweep.
        entries: Its jobs.
        best: The best of them.
        arguments: The arguments of its command.
    """
    is_open = any(entry.status not in _ended_statuses(sweep_dir) for entry in entries)
    if is_open and not is_search(sweep_dir):
        return []  # the rest of a grid may be better
    lines = []
    for edge in find_edges(best, drawn_from(sweep_dir) if is_search(sweep_dir) else tried_in_grid(entries)):
        if not edge.distribution():
            continue
        if is_search(sweep_dir):
            command = search_command(arguments, edge.key, edge.distribution())
        else:
            more = f"{edge.key}={','.join(f'{value:g}' for value in edge.beyond())}"
            command = resume_command(sweep_dir, arguments, more, is_sweep=True, parts_of=best.directory)
        side = "upper" if edge.is_upper else "lower"
        lines.append(f"  edge      the best {edge.key}, {edge.best:g}, is at the {side} edge; beyond: {command}")
    return lines


def _write_picture(path: Path, entries: Sequence[Entry]) -> None:
    """Draw the optimized metric against the settings; of several metrics, that of the best-ranked run."""
    measured = [(entry.run, entry.best, entry.settings) for entry in entries if entry.run and entry.best]
    if not measured:
        return
    metric = measured[0][0].metric
    comparable = [(settings, best[0]) for run, best, settings in measured if run.metric == metric]
    settings, values = [pair[0] for pair in comparable], [pair[1] for pair in comparable]

    def draw() -> "Figure":
        from backlit.plots.sweep import draw_sweep

        return draw_sweep(settings, values, metric=f"best {metric[0]}", averaged=SEED_KEYS)

    write_picture(path, draw)
