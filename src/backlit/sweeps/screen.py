"""The display of a running sweep: one line per running job and a bar for all jobs."""

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from rich import get_console
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from backlit.runs.run import Run
from backlit.sweeps.job import Job
from backlit.text import metric_text, printable

log = logging.getLogger(__name__)

REDRAW_INTERVAL_S = 0.5


class Screen:
    """One line per running job and a bar for all at a terminal; elsewhere one line when a job starts or ends.

    Args:
        done: Number of jobs that were completed before.
        is_queued: Whether a job may have to wait where it runs.
    """

    def __init__(self, done: int, *, is_queued: bool = False) -> None:
        self._first = "is in the queue" if is_queued else "starts"
        console = get_console()
        # No threads: jobs are forked from this process.
        self._bar = Progress(
            TextColumn("  sweep"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            auto_refresh=False,
            console=console,
        )
        self._task = self._bar.add_task("", total=None, completed=done)
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._is_shown = console.is_terminal
        self._drawn = 0.0
        self._begin = time.monotonic()
        self._ended = self._failed = 0

    def __enter__(self) -> "Screen":
        if self._is_shown:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def started(self, job: Job) -> None:
        """Log that a job has started, unless at a terminal."""
        if not self._is_shown:
            log.info("%s  %s", job.name, "resumes from its last checkpoint" if job.checkpoint else self._first)

    def ended(self, job: Job, run: Run | None, problem: str | None) -> None:
        """Log how a job ended.

        Args:
            job: The job.
            run: The job's run; None if it has left none.
            problem: The error; None if the job completed, or was pruned.
        """
        took = f"{run.record['duration_s']:.1f} s" if run and run.record.get("duration_s") else ""
        best = ""
        with contextlib.suppress(ValueError):  # the summary gives the reason
            best = f"{run.metric[0]} {metric_text(run.best[0])}" if run and run.best else ""
        outcome = f"failed: {problem}" if problem else "completed"
        if run and run.status == "pruned":
            outcome = str(run.record.get("error"))
        log.info("%s", "  ".join(filter(None, [job.name, outcome, took, best])))
        self._ended += 1
        self._failed += problem is not None
        self._bar.advance(self._task)

    def redraw(self, running: Sequence[Job], remaining: int) -> None:
        """Draw the running jobs and the bar, if the interval since the last redraw is over.

        Args:
            running: The running jobs.
            remaining: How many jobs are still to start.
        """
        now = time.monotonic()
        if not self._is_shown or now - self._drawn < REDRAW_INTERVAL_S:
            return
        self._drawn = now
        grid = Table.grid(padding=(0, 2))
        for job in running:
            grid.add_row(*(Text(printable(cell)) for cell in (f"  job {job.number}", job.label, *_progress(job))))
        notes = [f"{self._failed} failed"] if self._failed else []
        waiting = remaining + len(running)
        if self._ended:
            notes.append(f"{_clock((now - self._begin) / self._ended * waiting)} left")
        total = self._bar.tasks[0].completed + waiting
        self._bar.update(self._task, total=total, description=", ".join(notes))
        self._live.update(Group(grid, self._bar), refresh=True)


def _progress(job: Job) -> tuple[str, str, str]:
    """Return epoch, metric and remaining time of a running job, as far as its files contain them."""
    try:
        run = Run.read(job.directory)
        rows = run.rows if run else []
    except ValueError:
        run, rows = None, []
    if run is None or not rows:
        return "starting", "", ""
    epochs: Any = run.record.get("planned_epochs")
    number = rows[-1].get("epoch", 0) + 1
    # The row that is written after the last epoch belongs to no epoch.
    epoch = f"epoch {min(number, epochs):.0f}/{epochs}" if epochs else f"epoch {number:.0f}"
    name = run.metric[0]
    value = next((row[name] for row in reversed(rows) if name in row), None)
    steps, planned = rows[-1].get("step", 0) - (run.record.get("first_step") or 0), run.record.get("planned_steps")
    left = ""
    if planned and steps > 0:
        with contextlib.suppress(OSError):  # it begins again
            elapsed = time.time() - (run.directory / "run.json").stat().st_mtime
            left = f"{_clock(elapsed / steps * max(0, planned - rows[-1]['step']))} left"
    return epoch, "" if value is None else f"{name} {metric_text(value)}", left


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
