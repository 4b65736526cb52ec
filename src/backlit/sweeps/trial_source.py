"""The jobs of a search: each trial is asked for when a place is free, judged while it runs, and kept in a journal."""

import contextlib
import functools
import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backlit.runs.run import Run
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.attempts import read_run, record_jobs
from backlit.sweeps.check_jobs import config_to_check
from backlit.sweeps.compose import compose_job, job_config, number_of_digits
from backlit.sweeps.fork import Child
from backlit.sweeps.job import Job
from backlit.sweeps.job_results import record_end, record_pruned
from backlit.sweeps.study import Study
from backlit.sweeps.sweep import Sweep
from backlit.text import metric_text

log = logging.getLogger(__name__)

# So many failures one after the other mean that the next trial fails, too.
MOST_FAILURES_IN_A_ROW = 10


@dataclass
class _Trial:
    """A trial that has not ended.

    Args:
        number: Its number in the study.
        jobs: One a repetition.
        waiting: Those that have not started.
        values: The results of those that are completed.
        problem: Why its jobs need not go on: it is pruned, or one of them has failed; empty if they shall.
        is_failed: Whether one of its jobs has failed.
        n_running: How many of its jobs run.
    """

    number: int
    jobs: list[Job]
    waiting: deque[Job]
    values: list[float] = field(default_factory=list)
    problem: str = ""
    is_failed: bool = False
    n_running: int = 0

    @property
    def is_over(self) -> bool:
        """Return whether none of its jobs runs or is still to run."""
        return not self.n_running and (bool(self.problem) or not self.waiting)


def _best_by_step(run: Run) -> dict[int, tuple[float, float]]:
    """Return the best value of the optimized metric so far, and the epoch (from 1), by the steps of its records.

    Raises:
        ValueError: If the run's records cannot be read.
    """
    name, mode = run.metric
    best, found = None, dict[int, tuple[float, float]]()
    for row in run.rows:
        if math.isfinite(value := row.get(name, math.nan)):
            best = value if best is None else (min if mode == "min" else max)(best, value)
            found[int(row["step"])] = (best, row.get("epoch", 0) + 1)
    return found


class TrialSource:
    """The jobs of a search; a `JobSource`.

    The first job of a trial is judged while it runs. The others, which repeat it with other seeds, start when it is
    completed, or when no new trial is left to start.

    Args:
        sweep: What the jobs have in common.
        study: What was tried, and what to try next.
        gpus: The number of GPUs of each job.
        n_trials: The number of trials, those of earlier attempts included.
        timeout: Seconds after which no new trial starts; None for no limit.
        is_elsewhere: Whether the jobs run on other machines.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: Study,
        *,
        gpus: int,
        n_trials: int,
        timeout: float | None,
        is_elsewhere: bool = False,
    ) -> None:
        self.is_elsewhere = is_elsewhere
        self.sweep, self.study, self.gpus, self.n_trials = sweep, study, gpus, n_trials
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        trials = study.trials()
        unfinished = [trial for trial in trials if trial.state.name == "RUNNING"]
        # Of a kill while a trial was asked for: nothing of it has run.
        half_asked = [trial for trial in unfinished if trial.params.keys() != study.space.distributions.keys()]
        for trial in half_asked:
            study.tell(trial.number, None, "fail")
        self._n_asked = len(trials) - len(half_asked)
        self._unfinished = deque((trial.number, trial.params) for trial in unfinished if trial not in half_asked)
        self._open: dict[int, _Trial] = {}
        self._child: Child | None = None
        self._failures_in_a_row = 0
        self._curve_sizes: dict[int, int] = {}

    # Jobs that start

    def remaining(self) -> int:
        """Return how many jobs are still to start."""
        n_jobs = len(self.study.space.repetitions)
        waiting = sum(len(trial.waiting) for trial in self._open.values())
        return waiting + n_jobs * (self._n_new() + len(self._unfinished) + (self._child is not None))

    def _n_new(self) -> int:
        """Return how many new trials are still to be asked for."""
        is_over = time.monotonic() > self._deadline or self._failures_in_a_row >= MOST_FAILURES_IN_A_ROW
        return 0 if is_over else max(0, self.n_trials - self._n_asked)

    def next_job(self) -> Job | None:
        """Return a job to start; None while the next one is composed and checked, and after the last one."""
        while True:
            if job := self._waiting_job(of_completed=True):
                return job
            if self._child is None and (self._unfinished or self._n_new()):
                unfinished = self._unfinished.popleft() if self._unfinished else None
                self._n_asked += unfinished is None
                self._child = Child(functools.partial(self._prepare_trial, unfinished))
            if self._child is None:
                return self._waiting_job(of_completed=False)
            if not self._child.has_ended():
                return None
            with contextlib.closing(self._child) as child:
                self._child = None
                self._receive(*child.result())

    def _waiting_job(self, *, of_completed: bool) -> Job | None:
        """Return a job of a trial that is open, if one waits: of one with a completed job, or of any."""
        for trial in self._open.values():
            is_first = len(trial.waiting) == len(trial.jobs)
            if trial.waiting and not trial.problem and (is_first or trial.values or not of_completed):
                trial.n_running += 1
                job = trial.waiting.popleft()
                if not is_first:  # of a trial that is pruned before, it is in no table
                    record_jobs([job], self.sweep.directory)
                return job
        return None

    def handles(self) -> list[Any]:
        """Return what `multiprocessing.connection.wait` can wait for until the next job is ready."""
        # What has ended waits for a place: its handles would be ready all the time.
        return [] if self._child is None or self._child.has_ended() else self._child.handles()

    def _prepare_trial(self, unfinished: tuple[int, dict[str, Any]] | None) -> tuple[int, list[Job], list[str]]:
        """Return number, jobs and problems of a trial; in a process of its own, since samplers use threads.

        Args:
            unfinished: Number and parameters of a trial that an earlier attempt has left; None asks for a new one.
        """
        study = Study(self.sweep.directory, self.study.settings, self.study.space)
        number, parameters = unfinished or study.ask()
        recorded = {job["number"]: job["directory"] for job in read_sweep(self.sweep.directory)["jobs"]}
        all_overrides = study.space.trial_overrides(parameters)
        first = number * len(all_overrides)
        digits = number_of_digits(max(self.n_trials, number + 1) * len(all_overrides))
        jobs = [
            compose_job(self.sweep, overrides, first + index, recorded.get(first + index), digits)
            for index, overrides in enumerate(all_overrides)
        ]
        config = config_to_check(job_config(self.sweep, jobs[0]), is_elsewhere=self.is_elsewhere)
        return number, jobs, [] if self.sweep.check is None else self.sweep.check(config)

    def _receive(self, number: int, jobs: list[Job], problems: list[str]) -> None:
        """Take over a trial that was prepared."""
        record_jobs(jobs[:1], self.sweep.directory)
        if problems:
            jobs[0].directory.mkdir(exist_ok=True)
            record_end(jobs[0], "failed", "; ".join(problems))
            log.warning("%s  rejected: %s", jobs[0].name, "; ".join(problems))
            self._tell(number, None, "fail")
            return
        trial = self._open[number] = _Trial(number, jobs, deque())
        for job in jobs:
            job.gpus = self.gpus
            run = read_run(job.directory)
            if run is None or run.status in ("interrupted", "running"):
                trial.waiting.append(job)
            else:
                self._take_result(trial, job, run)
        self._close_if_over(trial)

    def close(self) -> None:
        """End the process that prepares a trial, if one does."""
        if self._child is not None:
            self._child.close()

    # Jobs that run

    def find_losers(self, running: Sequence[Job]) -> dict[int, str]:
        """Return the running jobs that are not worth going on: number to reason."""
        for job in running:
            self._judge(job)
        problems = {job.number: self._trial_of(job).problem for job in running}
        return {number: problem for number, problem in problems.items() if problem}

    def _trial_of(self, job: Job) -> _Trial:
        return self._open[job.number // len(self.study.space.repetitions)]

    def _judge(self, job: Job) -> None:
        """Report to the study what the first job of a trial has recorded since the last time."""
        trial = self._trial_of(job)
        if job.number != trial.jobs[0].number or trial.problem or not self._has_new_records(job):
            return
        run = read_run(job.directory)
        planned = run.record.get("planned_steps") if run else None
        if run is None or planned is None:
            return
        try:
            best = _best_by_step(run)
        except ValueError:
            return  # the summary gives the reason
        # In its last epoch, nothing is saved any more.
        last_epoch = run.record.get("planned_epochs") or math.inf
        values = {step: value for step, (value, epoch) in best.items() if step < planned and epoch < last_epoch}
        step = self.study.report(trial.number, values, planned)
        if step is not None:
            value, epoch = best[step]
            trial.problem = f"pruned at epoch {epoch:.0f}: best {run.metric[0]} {metric_text(value)}"

    def _has_new_records(self, job: Job) -> bool:
        """Return whether a job has written into its ``metrics.csv`` since the last call."""
        try:
            size = (job.directory / "metrics.csv").stat().st_size
        except OSError:
            return False
        known, self._curve_sizes[job.number] = self._curve_sizes.get(job.number), size
        return size != known

    def ended(self, job: Job, run: Run | None) -> None:
        """Take the result of a job; tell the study when that was the last job of its trial."""
        trial = self._trial_of(job)
        trial.n_running -= 1
        if run is not None and run.status == "completed":
            self._judge(job)  # others are compared with its curve, too
            if job.number == trial.jobs[0].number and not trial.is_failed:
                trial.problem = ""  # it was completed before it could be stopped
        self._take_result(trial, job, run)
        self._close_if_over(trial)

    def _take_result(self, trial: _Trial, job: Job, run: Run | None) -> None:
        value = run.optimized if run is not None and run.status == "completed" else None
        if value is not None and math.isfinite(value):
            trial.values.append(value)
        elif run is not None and run.status == "pruned":
            trial.problem = str(run.record.get("error"))
        else:
            trial.is_failed = True
            trial.problem = trial.problem or f"stopped: {job.name} has failed"

    def _close_if_over(self, trial: _Trial) -> None:
        """Tell the study how a trial has ended, if it has."""
        if not trial.is_over:
            return
        del self._open[trial.number]
        for job in trial.waiting:  # begun by an earlier attempt
            if (job.directory / "run.json").exists():
                record_pruned(job, trial.problem)
        if trial.is_failed:
            self._tell(trial.number, None, "fail")
        elif trial.problem:
            self._tell(trial.number, None, "pruned")
        else:
            self._tell(trial.number, statistics.mean(trial.values), "complete")

    def _tell(self, number: int, value: float | None, state: str) -> None:
        self.study.tell(number, value, state)
        self._failures_in_a_row = self._failures_in_a_row + 1 if state == "fail" else 0

    @property
    def is_hopeless(self) -> bool:
        """Return whether so many trials in a row have failed that no new one was asked for."""
        return self._failures_in_a_row >= MOST_FAILURES_IN_A_ROW and self._n_asked < self.n_trials
