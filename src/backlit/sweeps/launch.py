"""A sweep from its lists of overrides to its results: all jobs are composed and checked, then they run."""

import contextlib
import functools
import gc
import importlib
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from backlit.config.machine import cpu_threads
from backlit.errors import ConfigError
from backlit.runs.git import git_state
from backlit.sweeps.attempts import prepare_attempt, record_jobs, split_completed, uncompleted_jobs
from backlit.sweeps.compose import compose_jobs
from backlit.sweeps.fork import run_in_child
from backlit.sweeps.gpus import available_gpus, gpu_limit_problems, job_slots, requested_gpus
from backlit.sweeps.job import Job
from backlit.sweeps.job_process import JobProcess
from backlit.sweeps.job_results import task_config
from backlit.sweeps.run_jobs import run_jobs
from backlit.text import shell_path

log = logging.getLogger(__name__)

# Modules that a run imports while it runs; a forked job inherits them.
PRELOADED = (
    "backlit.callbacks",
    "backlit.data",
    "backlit.loggers",
    "backlit.models",
    "backlit.train",
    "backlit.training.train",
    "matplotlib.backends.backend_agg",
    "torch.utils.tensorboard",
    "torchvision.transforms.v2",
)

Check = Callable[[DictConfig], list[str]]


def launch(
    config: DictConfig,
    hydra_context: HydraContext,
    task_function: TaskFunction,
    job_overrides: Sequence[list[str]],
    *,
    first_number: int,
    n_jobs: int,
    gpus_per_job: int | None,
) -> list[JobReturn]:
    """Run jobs, at most `n_jobs` at a time, and return their results in the order of the jobs.

    A task function may have an attribute ``check(cfg) -> list[str]``, which returns the problems of a config, one line
    per problem; then all jobs are checked before the first one starts.

    Args:
        config: The config of the sweep as a whole.
        hydra_context: Composes the jobs' configs.
        task_function: The function that a job calls with its config.
        job_overrides: The overrides of each job.
        first_number: The number of the first job.
        n_jobs: How many jobs run at a time; -1 is as many as GPUs, or CPU cores, allow.
        gpus_per_job: Number of GPUs per job; None for as many as its ``trainer.devices`` requests.

    Raises:
        ConfigError: If a job is invalid, or has no directory of its own; then none starts.
    """
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    if not job_overrides:
        raise ConfigError(["a sweep must have at least one job, got none: one of the lists of values is empty"])
    sweep_dir = Path(config.hydra.sweep.dir)
    sweep_dir.mkdir(parents=True, exist_ok=True)
    check: Check | None = getattr(task_function, "check", None)
    requested = len(job_overrides)
    if first_number == 0 and not (sweep_dir / "optuna.db").exists():
        job_overrides = [*job_overrides, *uncompleted_jobs(sweep_dir, job_overrides)]
    if first_number == 0:
        log.info("%d jobs, checked first: %s", len(job_overrides), shell_path(sweep_dir))
    # On another core, while this process imports.
    compose = functools.partial(compose_jobs, config, hydra_context, job_overrides, first_number, sweep_dir)
    with run_in_child(compose) as composed:
        if check is not None:
            _import_for_jobs()
        composed_jobs: list[Job] = composed()
    jobs = _without_repetitions(composed_jobs)
    gpus = [] if check is None else _check_jobs(jobs, check, n_jobs, gpus_per_job)
    record_jobs(jobs, sweep_dir)
    results, waiting = split_completed(jobs)
    slots = job_slots(waiting, n_jobs, gpus)
    threads = max(1, cpu_threads() // slots)
    overrides: Any = OmegaConf.to_container(config.hydra.overrides, resolve=False)

    def start(job: Job) -> JobProcess:
        prepare_attempt(job)
        arguments = job.arguments(overrides["hydra"], overrides["task"])
        return JobProcess(job, arguments, max(1, threads // job.processes), hydra_context, task_function)

    run_jobs(waiting, start, slots, gpus, results)
    return [results[job.number] for job in composed_jobs[:requested]]


def _without_repetitions(jobs: list[Job]) -> list[Job]:
    """Return each job once; lists of overrides that come to the same config have the same job."""
    unique = list({job.number: job for job in jobs}.values())
    if repeated := len(jobs) - len(unique):
        log.info("%d of %d jobs repeat another one and run once with it", repeated, len(jobs))
    return unique


def _import_for_jobs() -> None:
    """Import and find out, once for all jobs, what each of them needs."""
    for name in PRELOADED:
        importlib.import_module(name)
    # The garbage collectors of the jobs and at exit need not scan imported objects; memory stays shared.
    gc.freeze()
    git_state()  # it caches its result, which the forked jobs inherit


def _check_jobs(jobs: list[Job], check: Check, n_jobs: int, gpus_per_job: int | None) -> list[str]:
    """Check every job, set the number of its GPUs, and return the names of the available GPUs.

    The checks run in separate processes: this one must not compute anything, so that it can be forked.

    Raises:
        ConfigError: If a job is invalid; it lists all problems of all jobs.
    """
    share = math.ceil(len(jobs) / cpu_threads())
    parts = [jobs[first : first + share] for first in range(0, len(jobs), share)]
    with contextlib.ExitStack() as children:
        found_gpus = children.enter_context(run_in_child(available_gpus))
        checked = [
            children.enter_context(run_in_child(functools.partial(_job_problems, check, part))) for part in parts
        ]
        job_problems: list[list[str]] = [lines for part in checked for lines in part()]
        gpus: list[str] = found_gpus()
    for job, lines in zip(jobs, job_problems, strict=True):
        job.gpus = requested_gpus(job.config, gpus, n_jobs, gpus_per_job)
        lines += gpu_limit_problems(job, gpus, gpus_per_job)
    problems = _describe_problems(jobs, job_problems)
    if gpus_per_job is not None and gpus_per_job > len(gpus):
        problems = [f"hydra.launcher.gpus_per_job must be <= {len(gpus)} (the GPUs here), got {gpus_per_job}"]
    if problems:
        raise ConfigError(problems)
    return gpus


def _describe_problems(jobs: list[Job], job_problems: list[list[str]]) -> list[str]:
    """Return a line per problem that all jobs have, then one per problem and job."""
    shared = [line for line in job_problems[0] if len(jobs) > 1 and all(line in lines for lines in job_problems)]
    own = zip(jobs, job_problems, strict=True)
    return shared + [f"{job.name}: {line}" for job, lines in own for line in lines if line not in shared]


def _job_problems(check: Check, jobs: list[Job]) -> list[list[str]]:
    return [check(task_config(job.config)) for job in jobs]
