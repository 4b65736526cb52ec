"""The state that earlier attempts at a sweep have left: ``sweep.json``, completed jobs, checkpoints."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn

from backlit.errors import ConfigError
from backlit.runs.files import write_json
from backlit.runs.run import Run, clear_run
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.compose import job_identity, typed_packages
from backlit.sweeps.job import Job
from backlit.sweeps.job_results import completed_result
from backlit.sweeps.sweep import Sweep

log = logging.getLogger(__name__)


def read_run(directory: Path) -> Run | None:
    """Return a job's run; None, with a warning, if its record cannot be read."""
    try:
        return Run.read(directory)
    except ValueError as error:
        log.warning("%s", error)
        return None


def record_jobs(jobs: list[Job], sweep_dir: Path) -> None:
    """Add the jobs to ``sweep.json``, with the command's arguments, which may have changed."""
    content = read_sweep(sweep_dir) | {"arguments": sys.argv[1:]}
    recorded = {job["number"]: job for job in content["jobs"]}
    for job in jobs:
        directory = str(job.directory.relative_to(sweep_dir))
        fields = {"number": job.number, "directory": directory, "overrides": job.overrides}
        recorded[job.number] = recorded.get(job.number, {}) | fields
    write_json(sweep_dir / "sweep.json", content | {"jobs": [recorded[number] for number in sorted(recorded)]})


def uncompleted_jobs(sweep_dir: Path, job_overrides: Sequence[list[str]]) -> list[list[str]]:
    """Return the overrides of recorded jobs that are not completed and that `job_overrides` does not name.

    They trust the packages that `job_overrides` trust, and no others.
    """
    named = {job_identity(overrides) for overrides in job_overrides}
    packages = typed_packages(job_overrides[0]) if job_overrides else []
    uncompleted = []
    for job in read_sweep(sweep_dir)["jobs"]:
        run = read_run(sweep_dir / job["directory"])
        identity = job_identity(job["overrides"])
        if identity not in named and not (run and run.status == "completed"):
            uncompleted.append([*identity, *packages])
    return uncompleted


def record_slurm_ids(ids: Mapping[int, int], sweep_dir: Path) -> None:
    """Add to ``sweep.json`` how Slurm calls the jobs.

    Args:
        ids: The jobs' numbers to Slurm's.
        sweep_dir: The sweep.
    """
    content = read_sweep(sweep_dir)
    jobs = [job | {"slurm_id": ids[job["number"]]} if job["number"] in ids else job for job in content["jobs"]]
    write_json(sweep_dir / "sweep.json", content | {"jobs": jobs})


def split_completed(
    sweep: Sweep, jobs: list[Job], is_followed: Callable[[Job], bool]
) -> tuple[dict[int, JobReturn], list[Job]]:
    """Return the results of the jobs that are completed, by number, and the other jobs.

    Args:
        sweep: What the jobs have in common.
        jobs: The jobs.
        is_followed: Whether the engine follows a job that runs already.

    Raises:
        ConfigError: If one of the jobs is running, and not followed.
    """
    results: dict[int, JobReturn] = {}
    waiting = []
    for job in jobs:
        earlier = read_run(job.directory)
        if earlier and earlier.status == "running" and not is_followed(job):
            raise ConfigError([f"{job.name} is running ({earlier.runner}): wait for it, or end it"])
        if earlier and earlier.status == "completed":
            results[job.number] = completed_result(sweep, job, earlier.optimized)
        else:
            waiting.append(job)
    if results:
        log.info("%d of %d jobs are completed already and are kept", len(results), len(jobs))
    return results, waiting


def prepare_attempt(job: Job) -> None:
    """Set the checkpoint from which a job resumes; without one, remove the files of an earlier attempt.

    Raises:
        OSError: If somebody has resumed the job by itself since the sweep has started.
    """
    earlier = read_run(job.directory)
    if earlier and earlier.status == "running":
        raise OSError(f"{earlier.runner} runs it already")
    checkpoint = None
    if any(job.directory.glob("checkpoints/*.ckpt")):
        from backlit.runs.checkpoint import find_last_checkpoint

        try:
            checkpoint = find_last_checkpoint(job.directory)
        except ValueError as error:
            log.warning("%s: %s; it starts from the beginning", job.name, error)
    if checkpoint is not None:
        job.checkpoint = checkpoint.path
    elif (job.directory / "run.json").exists():
        clear_run(job.directory)
