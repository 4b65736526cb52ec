"""The check of a sweep's jobs, before any of them starts."""

import functools
import gc
import importlib
import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from omegaconf import DictConfig, OmegaConf

from backlit.config.machine import cpu_cores, cpu_threads
from backlit.runs.git import git_state
from backlit.sweeps.compose import job_config
from backlit.sweeps.engine import Engine
from backlit.sweeps.fork import run_in_child
from backlit.sweeps.job import Job
from backlit.sweeps.job_results import task_config
from backlit.sweeps.sweep import Check, Sweep
from backlit.training.lightning_internals import read_entry_points_once

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


def import_for_jobs() -> None:
    """Import and find out, once for all jobs, what each of them needs."""
    for name in PRELOADED:
        importlib.import_module(name)
    read_entry_points_once()
    # The garbage collectors of the jobs and at exit need not scan imported objects; memory stays shared.
    gc.freeze()
    git_state()  # it caches its result, which the forked jobs inherit


def check_jobs(sweep: Sweep, engine: Engine, jobs: Sequence[Job], n_jobs: int) -> list[list[str]]:
    """Prepare the engine for the jobs; return what is wrong with each of them, a line a problem.

    Args:
        sweep: What the jobs have in common.
        engine: Starts the jobs.
        jobs: The jobs of a grid, or examples of those of a search.
        n_jobs: How many jobs there are in all.

    Raises:
        ConfigError: If the engine cannot work here at all.
    """
    limits = engine.prepare(jobs, n_jobs)
    found: list[list[str]] = [[] for _ in jobs]
    if sweep.check is not None:
        found = find_problems(sweep, jobs, sweep.check, is_elsewhere=engine.is_elsewhere)
    return [own + more for own, more in zip(found, limits, strict=True)]


def config_to_check(config: DictConfig, *, is_elsewhere: bool) -> DictConfig:
    """Return a job's config as this machine can check it: for a job elsewhere, one that fits this machine, too.

    Args:
        config: The job's config, with Hydra's part.
        is_elsewhere: Whether the job will run on another machine.
    """
    task = task_config(config)
    accelerator, devices = (OmegaConf.select(task, f"trainer.{key}") for key in ("accelerator", "devices"))
    if not is_elsewhere or accelerator not in ("cpu", "gpu", "cuda"):
        return task
    here: dict[str, Any] = {}
    if accelerator != "cpu":
        here |= {"accelerator": "cpu", "strategy": "auto"}
        if str(task.trainer.get("precision")).startswith("16"):
            here["precision"] = "32-true"
    devices = len(devices) if OmegaConf.is_list(devices) else devices
    is_here = isinstance(devices, int) and 0 < devices <= cpu_cores()
    if accelerator != "cpu" or isinstance(devices, int):
        here["devices"] = devices if is_here else 1
    task.trainer = OmegaConf.merge(task.trainer, here)
    return task


def find_problems(sweep: Sweep, jobs: Sequence[Job], check: Check, *, is_elsewhere: bool) -> list[list[str]]:
    """Return what is wrong with the config of each job, a line a problem.

    The checks run in separate processes: this one must not compute anything, so that it can be forked.
    """
    share = math.ceil(len(jobs) / cpu_threads())
    parts = [jobs[first : first + share] for first in range(0, len(jobs), share)]
    with ExitStack() as children:
        found = [
            children.enter_context(run_in_child(functools.partial(_check_part, sweep, check, is_elsewhere, part)))
            for part in parts
        ]
        return [lines for part in found for lines in part()]


def _check_part(sweep: Sweep, check: Check, is_elsewhere: bool, jobs: Sequence[Job]) -> list[list[str]]:
    return [check(config_to_check(job_config(sweep, job), is_elsewhere=is_elsewhere)) for job in jobs]


def describe_problems(jobs: Sequence[Job], job_problems: Sequence[list[str]]) -> list[str]:
    """Return a line per problem that all jobs have, then one per problem and job."""
    shared = [line for line in job_problems[0] if len(jobs) > 1 and all(line in lines for lines in job_problems)]
    own = zip(jobs, job_problems, strict=True)
    return shared + [f"{job.name}: {line}" for job, lines in own for line in lines if line not in shared]
