"""A search: each trial is asked for when a place is free, judged while it runs, and kept in a journal."""

import contextlib
import functools
import importlib.util
import logging
import math
import re
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

from backlit.arguments import Positive, PositiveInt, Seed, find_problem
from backlit.errors import ConfigError, JobError
from backlit.runs.run import Run
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.attempts import read_run, record_jobs
from backlit.sweeps.check_jobs import check_jobs, config_to_check, import_for_jobs
from backlit.sweeps.compose import compose_job
from backlit.sweeps.engine import Engine
from backlit.sweeps.fork import Child, run_in_child
from backlit.sweeps.job import Job
from backlit.sweeps.job_results import record_end
from backlit.sweeps.run_jobs import run_jobs
from backlit.sweeps.search_space import SearchSpace, read_space
from backlit.sweeps.study import PRUNERS, SAMPLERS, Study, StudySettings, check_sampler, grid_values
from backlit.sweeps.sweep import Sweep
from backlit.text import shell_path

log = logging.getLogger(__name__)

# So many failures one after the other mean that the next trial fails, too.
_MOST_FAILURES_IN_A_ROW = 10


def search(
    sweep: Sweep,
    engine: Engine,
    arguments: Sequence[str],
    *,
    n_trials: int,
    timeout: float | None,
    sampler: str,
    pruner: str,
    seed: int | None,
    direction: Literal["minimize", "maximize"],
    params: DictConfig,
) -> None:
    """Search for the best values of what varies.

    Args:
        sweep: What the jobs have in common.
        engine: Starts the jobs.
        arguments: The overrides that were typed.
        n_trials: The number of trials, those of earlier attempts included.
        timeout: Seconds after which no new trial starts; None for no limit.
        sampler: One of `SAMPLERS`: proposes trials.
        pruner: One of `PRUNERS`: ends trials that are not worth going on.
        seed: Seeds the sampler.
        direction: ``minimize`` or ``maximize``: of the optimized metric.
        params: Key to a distribution, in Hydra's grammar.

    Raises:
        ConfigError: If something is wrong with the search, or with a trial at the ends of what is varied; then none
            starts.
        JobError: If so many trials in a row have failed that the search has ended early.
    """
    setup_globals()
    configure_log(sweep.config.hydra.hydra_logging, sweep.config.hydra.verbose)
    if sweep.config.zoom:
        raise ConfigError([f"zoom must be 0 for a search, which looks around by itself, got {sweep.config.zoom}"])
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(["a search needs Optuna: pip install 'backlit[optuna]'"])
    if not engine.waits:
        raise ConfigError(["hydra.launcher.wait must be true for a search: it needs the results, got false"])
    _check_settings(sweep, n_trials=n_trials, timeout=timeout, sampler=sampler, pruner=pruner, seed=seed)
    space = read_space(params, arguments, sweep.hydra_context.config_loader)
    check_sampler(sampler, space)
    sweep.directory.mkdir(parents=True, exist_ok=True)
    settings = StudySettings(str(sweep.config.task_name), direction, sampler, pruner, seed or 0)
    if sampler == "grid":
        n_trials = min(n_trials, math.prod(map(len, grid_values(space).values())))
    log.info("%d trials, the ends of what varies are checked first: %s", n_trials, shell_path(sweep.directory))
    with run_in_child(functools.partial(_compose_corners, sweep, space)) as composed:
        import_for_jobs()
        corners: list[Job] = composed()
    # The same end stands in several examples.
    if problems := list(dict.fromkeys(line for lines in check_jobs(sweep, engine, corners) for line in lines)):
        raise ConfigError([_add_int(line) for line in problems])
    source = Search(
        sweep,
        Study(sweep.directory, settings, space),
        gpus=max(job.gpus for job in corners),
        n_trials=n_trials,
        timeout=timeout,
        is_elsewhere=engine.is_elsewhere,
    )
    with contextlib.closing(source):
        run_jobs(sweep, engine, source, {})
    if source.is_hopeless:
        log.error("the search has ended early: %d trials in a row have failed", _MOST_FAILURES_IN_A_ROW)
        raise JobError("trials fail")


def _check_settings(sweep: Sweep, *, sampler: str, pruner: str, **numbers: object) -> None:
    """Raise `ConfigError` if a key of the search is out of its range."""
    ranges: dict[str, Any] = {"n_trials": PositiveInt, "timeout": Positive | None, "seed": Seed | None}
    found = [find_problem(f"hydra.sweeper.{key}", numbers[key], hint) for key, hint in ranges.items()]
    for key, value, known in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if value not in known:
            found.append(f"hydra.sweeper.{key} must be one of {', '.join(known)}, got {value}")
    metric = str(sweep.config.optimized_metric)
    validates = all(OmegaConf.select(sweep.config, key) != 0 for key in ("trainer.limit_val_batches", "data.val_size"))
    if pruner != "none" and not (metric.startswith("train") or (metric.startswith("val") and validates)):
        what = "without validation there is none" if metric.startswith("val") else f"{metric} is not measured then"
        found.append(
            f"hydra.sweeper.pruner={pruner} must have values of {metric} while a run trains; {what}: take none"
        )
    if problems := [line for line in found if line]:
        raise ConfigError(problems)


def _add_int(problem: str) -> str:
    """Return a problem with what to type for whole numbers: Hydra's intervals are of floats."""
    return (
        f"{problem}; for whole numbers: int(interval(...))"
        if re.search("must be int .*, got [-.0-9e]+$", problem)
        else problem
    )


def _compose_corners(sweep: Sweep, space: SearchSpace) -> list[Job]:
    """Return jobs that together have both ends of every interval, every choice, and every repetition."""
    all_overrides = [overrides for corner in space.corners() for overrides in space.trial_overrides(corner)]
    return [compose_job(sweep, overrides, number) for number, overrides in enumerate(all_overrides)]


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


class Search:
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
        self._n_asked = len(trials)
        self._unfinished = deque((trial.number, trial.params) for trial in trials if not trial.state.is_finished())
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
        is_over = time.monotonic() > self._deadline or self._failures_in_a_row >= _MOST_FAILURES_IN_A_ROW
        return 0 if is_over else max(0, self.n_trials - self._n_asked)

    def next_job(self) -> Job | None:
        """Return a job to start; None while the next one is composed and checked, and after the last one."""
        if job := self._waiting_job(of_completed=True):
            return job
        if self._child is None and (self._unfinished or self._n_new()):
            unfinished = self._unfinished.popleft() if self._unfinished else None
            self._n_asked += unfinished is None
            self._child = Child(functools.partial(self._prepare_trial, unfinished))
        if self._child is not None:
            if not self._child.has_ended():
                return None
            with contextlib.closing(self._child) as child:
                self._child = None
                self._receive(*child.result())
            return self.next_job()
        return self._waiting_job(of_completed=False)

    def _waiting_job(self, *, of_completed: bool) -> Job | None:
        """Return a job of a trial that is open, if one waits: of one with a completed job, or of any."""
        for trial in self._open.values():
            is_first = len(trial.waiting) == len(trial.jobs)
            if trial.waiting and not trial.problem and (is_first or trial.values or not of_completed):
                trial.n_running += 1
                return trial.waiting.popleft()
        return None

    def handles(self) -> list[Any]:
        """Return what `multiprocessing.connection.wait` can wait for until the next job is ready."""
        return [] if self._child is None else self._child.handles()

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
        jobs = [
            compose_job(self.sweep, overrides, first + index, recorded.get(first + index))
            for index, overrides in enumerate(all_overrides)
        ]
        check, config = self.sweep.check, config_to_check(jobs[0].config, is_elsewhere=self.is_elsewhere)
        return number, jobs, [] if check is None else check(config)

    def _receive(self, number: int, jobs: list[Job], problems: list[str]) -> None:
        """Take over a trial that was prepared."""
        record_jobs(jobs, self.sweep.directory)
        if problems:
            for job in jobs:
                job.directory.mkdir(exist_ok=True)
                record_end(job, "failed", "; ".join(problems))
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
        name = run.metric[0]
        rows = {int(row["step"]): row for row in run.rows if math.isfinite(row.get(name, math.nan))}
        step = self.study.report(trial.number, {step: row[name] for step, row in rows.items()}, planned)
        if step is not None:
            row = rows[step]
            trial.problem = f"pruned at epoch {row.get('epoch', 0) + 1:.0f}: {name} {row[name]:.4g}"

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
            trial.problem = ""
        self._take_result(trial, job, run)
        self._close_if_over(trial)

    def _take_result(self, trial: _Trial, job: Job, run: Run | None) -> None:
        if run is not None and run.status == "completed" and run.optimized is not None:
            trial.values.append(run.optimized)
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
        return self._failures_in_a_row >= _MOST_FAILURES_IN_A_ROW
