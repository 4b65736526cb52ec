"""The jobs' configs, composed from a sweep's overrides."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from backlit.errors import ConfigError
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.job import Job, job_facts
from backlit.sweeps.sweep import Sweep
from backlit.text import shell_path, shorten_numbers


def job_only_overrides(overrides: list[str]) -> list[str]:
    """Return overrides without those that make a sweep, and say how: a job is not a sweep."""
    return [override for override in overrides if not override.startswith(("sweep=", "zoom="))]


def job_identity(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return what makes a job the same one in another attempt: its overrides, without those of `typed_packages`."""
    return tuple(override for override in job_only_overrides(list(overrides)) if not _is_packages(override))


def typed_packages(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that name the packages which the user trusts now; recorded ones count for nothing."""
    return [override for override in overrides if _is_packages(override)]


def _is_packages(override: str) -> bool:
    return override.lstrip("+").startswith("packages=")


def compose_jobs(sweep: Sweep, job_overrides: Sequence[list[str]], first_number: int) -> list[Job]:
    """Return a job for each list of overrides; a job recorded in ``sweep.json`` keeps its number and directory.

    Lists of overrides that compose to the same config get the same job: twice the same run would look like two seeds.

    Args:
        sweep: What the jobs have in common.
        job_overrides: The overrides of each job.
        first_number: The lowest number for a job that is new.

    Raises:
        ConfigError: If a job has no directory of its own in the sweep's.
    """
    recorded = read_sweep(sweep.directory)["jobs"]
    recorded_by_identity = {job_identity(job["overrides"]): job for job in recorded}
    next_number = max([first_number, *(job["number"] + 1 for job in recorded)])
    n_new = sum(job_identity(overrides) not in recorded_by_identity for overrides in job_overrides)
    digits = number_of_digits(next_number + n_new)
    jobs: list[Job] = []
    by_config: dict[bytes, Job] = {}
    by_directory: dict[Path, Job] = {}
    facts: dict[str, DictConfig] = {}  # of jobs on the same hardware, as most are, there is one
    problems: list[str] = []
    for overrides in job_overrides:
        earlier = recorded_by_identity.get(job_identity(overrides))
        if earlier is None:
            job, config = _compose(sweep, overrides, next_number, None, digits)
        else:
            job, config = _compose(sweep, overrides, earlier["number"], earlier["directory"], digits)
        content: Any = OmegaConf.to_container(config, resolve=False)
        del content["hydra"]
        text = repr(content)
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        if (same := by_config.get(digest)) is not None and "${hydra:" not in text:
            jobs.append(same)
            continue
        job.config = facts.setdefault(repr(job.config), job.config)
        by_config[digest] = job
        if earlier is None:
            next_number += 1
            problems += _directory_problems(job, str(config.hydra.sweep.subdir), by_directory.get(job.directory))
        by_directory.setdefault(job.directory, job)
        jobs.append(job)
    if problems:
        raise ConfigError(problems)
    return jobs


def number_of_digits(n_jobs: int) -> int:
    """Return how many digits the highest number of `n_jobs` jobs has: directories sort like their numbers."""
    return len(str(max(0, n_jobs - 1)))


def compose_job(sweep: Sweep, overrides: list[str], number: int, directory: str | None = None, digits: int = 1) -> Job:
    """Return a job.

    Args:
        sweep: What the jobs have in common.
        overrides: The overrides of the job.
        number: Its number.
        directory: The name of its directory in the sweep's; None for the one that its config says.
        digits: How many digits the number has in that name.
    """
    return _compose(sweep, overrides, number, directory, digits)[0]


def _compose(
    sweep: Sweep, overrides: list[str], number: int, directory: str | None, digits: int
) -> tuple[Job, DictConfig]:
    """Return a job, and the config that Hydra composes of its overrides."""
    own = job_only_overrides(overrides)
    typed: Any = OmegaConf.to_container(sweep.config.hydra.overrides.task, resolve=False)
    config = sweep.templates.compose(overrides)
    with open_dict(config):
        config.hydra.job.num = number
        config.hydra.job.id = f"{number:0{digits}}"
    path = sweep.directory / (directory or str(config.hydra.sweep.subdir))
    label = shorten_numbers(" ".join(override for override in own if override not in typed))
    return Job(number, own, job_facts(config), path, label, list(overrides)), config


def job_config(sweep: Sweep, job: Job) -> DictConfig:
    """Return the config with which a job runs, with Hydra's part; composed anew, since many jobs' would fill memory."""
    config = sweep.templates.compose(job.sweep_overrides)
    with open_dict(config):
        config.hydra.job.num, config.hydra.job.id = job.number, str(job.number)
        # For itself and for the processes that it starts, a job is a run like any other.
        config.hydra.mode = RunMode.RUN
        config.hydra.run.dir = str(job.directory)
        config.hydra.overrides.task = job.overrides
        if job.checkpoint is not None:
            config.ckpt_path = str(job.checkpoint)
    return config


def _directory_problems(job: Job, name: str, other: Job | None) -> list[str]:
    """Return one line if the directory of a new job is not in the sweep's, or not its own; otherwise an empty list.

    Args:
        job: The job.
        name: The name that its config gives to the directory.
        other: An earlier job with this directory.
    """
    shown = f"hydra.sweep.subdir of {job.name}"
    if Path(name).name != name or name.startswith("."):
        return [f"{shown} must be the name of a directory in the sweep's, got {name}"]
    if other is not None:
        return [f"{shown} must be another than that of {other.name}, got {name} for both"]
    if job.directory.exists():
        return [f"{shown} must be a new directory, got {name}, which exists in {shell_path(job.directory.parent)}"]
    return []
