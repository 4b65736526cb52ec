"""The jobs' configs, composed from a sweep's overrides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from backlit.errors import ConfigError
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.job import Job
from backlit.sweeps.job_results import task_config
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
    jobs: list[Job] = []
    by_config: dict[str, Job] = {}
    problems: list[str] = []
    for overrides in job_overrides:
        earlier = recorded_by_identity.get(job_identity(overrides))
        if earlier is None:
            job = compose_job(sweep, overrides, next_number)
        else:
            job = compose_job(sweep, overrides, earlier["number"], earlier["directory"])
        config_text = OmegaConf.to_yaml(task_config(job.config))
        if (same := by_config.get(config_text)) is not None and "${hydra:" not in config_text:
            jobs.append(same)
            continue
        by_config[config_text] = job
        if earlier is None:
            next_number += 1
            problems += _directory_problems(job, jobs)
        jobs.append(job)
    if problems:
        raise ConfigError(problems)
    return jobs


def compose_job(sweep: Sweep, overrides: list[str], number: int, directory: str | None = None) -> Job:
    """Return a job.

    Args:
        sweep: What the jobs have in common.
        overrides: The overrides of the job.
        number: Its number.
        directory: The name of its directory in the sweep's; None for the one that its config says.
    """
    own = job_only_overrides(overrides)
    typed: Any = OmegaConf.to_container(sweep.config.hydra.overrides.task, resolve=False)
    composed = sweep.hydra_context.config_loader.load_sweep_config(sweep.config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
        path = sweep.directory / (directory or str(composed.hydra.sweep.subdir))
        # For itself and for the processes that it starts, a job is a run like any other.
        composed.hydra.mode = RunMode.RUN
        composed.hydra.run.dir = str(path)
        composed.hydra.overrides.task = own
    label = shorten_numbers(" ".join(override for override in own if override not in typed))
    return Job(number, own, composed, path, label)


def _directory_problems(job: Job, others: Sequence[Job]) -> list[str]:
    """Return one line if the directory of a new job is not in the sweep's, or not its own; otherwise an empty list."""
    name = str(job.config.hydra.sweep.subdir)
    shown = f"hydra.sweep.subdir of {job.name}"
    if Path(name).name != name or name.startswith("."):
        return [f"{shown} must be the name of a directory in the sweep's, got {name}"]
    for other in others:
        if other.directory == job.directory:
            return [f"{shown} must be another than that of {other.name}, got {name} for both"]
    if job.directory.exists():
        return [f"{shown} must be a new directory, got {name}, which exists in {shell_path(job.directory.parent)}"]
    return []
