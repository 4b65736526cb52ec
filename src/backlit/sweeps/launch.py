"""A grid from its lists of overrides to its results: all jobs are composed and checked, then they run."""

import contextlib
import functools
import logging
from collections.abc import Sequence

from hydra.core.utils import JobReturn, configure_log, setup_globals

from backlit.errors import ConfigError
from backlit.sweeps.attempts import record_jobs, split_completed, uncompleted_jobs
from backlit.sweeps.check_jobs import check_jobs, describe_problems, import_for_jobs
from backlit.sweeps.compose import compose_jobs
from backlit.sweeps.engine import Engine
from backlit.sweeps.fork import run_in_child
from backlit.sweeps.job import Job
from backlit.sweeps.job_source import Grid
from backlit.sweeps.run_jobs import run_jobs
from backlit.sweeps.sweep import Sweep
from backlit.sweeps.templates import Learned
from backlit.text import shell_path

log = logging.getLogger(__name__)


def launch(sweep: Sweep, engine: Engine, job_overrides: Sequence[list[str]], first_number: int) -> list[JobReturn]:
    """Run jobs and return their results in the order of the jobs.

    Args:
        sweep: What the jobs have in common.
        engine: Starts the jobs.
        job_overrides: The overrides of each job.
        first_number: The number of the first job.

    Raises:
        ConfigError: If a job is invalid, or has no directory of its own; then none starts.
    """
    setup_globals()
    configure_log(sweep.config.hydra.hydra_logging, sweep.config.hydra.verbose)
    if not job_overrides:
        raise ConfigError(["a sweep must have at least one job, got none: one of the lists of values is empty"])
    if not engine.waits and sweep.config.get("zoom"):
        raise ConfigError(
            [f"zoom must be 0 with hydra.launcher.wait=false: it needs the results, got {sweep.config.zoom}"]
        )
    sweep.directory.mkdir(parents=True, exist_ok=True)
    requested = len(job_overrides)
    if first_number == 0:
        job_overrides = [*job_overrides, *uncompleted_jobs(sweep.directory, job_overrides)]
        log.info("%d jobs, checked first: %s", len(job_overrides), shell_path(sweep.directory))
    # On another core, while this process imports.
    with run_in_child(functools.partial(_compose, sweep, job_overrides, first_number)) as composed:
        if sweep.check is not None:
            import_for_jobs()
        composed_jobs: list[Job]
        composed_jobs, learned = composed()
    sweep.templates.learn(learned)
    jobs = _without_repetitions(composed_jobs)
    with contextlib.closing(engine):
        if problems := describe_problems(jobs, check_jobs(sweep, engine, jobs, n_jobs=len(jobs))):
            raise ConfigError(problems)
        record_jobs(jobs, sweep.directory)
        results, waiting = split_completed(sweep, jobs, engine.has_job)
        run_jobs(sweep, engine, Grid(waiting), results)
    return [results[job.number] for job in composed_jobs[:requested]]


def _compose(sweep: Sweep, job_overrides: Sequence[list[str]], first_number: int) -> tuple[list[Job], Learned]:
    """Return the jobs, and what their parent need not find out again."""
    return compose_jobs(sweep, job_overrides, first_number), sweep.templates.learned


def _without_repetitions(jobs: list[Job]) -> list[Job]:
    """Return each job once; lists of overrides that come to the same config have the same job."""
    unique = list({job.number: job for job in jobs}.values())
    if repeated := len(jobs) - len(unique):
        log.info("%d of %d jobs repeat another one and run once with it", repeated, len(jobs))
    return unique
