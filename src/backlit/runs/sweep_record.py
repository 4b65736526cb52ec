"""``sweep.json``: the command of a sweep, and its jobs."""

from pathlib import Path
from typing import Any

from backlit.runs.bounded import read_json


def read_sweep(sweep_dir: Path) -> dict[str, Any]:
    """Return the content of ``sweep.json``: ``arguments`` of the command, ``started`` and ``jobs``, a dict a job.

    A job has ``number``, ``directory`` and ``overrides``, and ``slurm_id`` if Slurm has got it.

    Raises:
        ValueError: If it is not what a sweep writes.
    """
    path = sweep_dir / "sweep.json"
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {"jobs": []}
    content: dict[str, Any] = {"jobs": []} | (found if isinstance(found, dict) else {"jobs": None})
    jobs = content["jobs"]
    if not (_is_texts(content.get("arguments", [])) and isinstance(jobs, list) and all(map(_is_job, jobs))):
        raise ValueError(f"{path} must be what a sweep writes: arguments; jobs with number, directory and overrides")
    for key in ("number", "directory"):
        if len({job[key] for job in jobs}) < len(jobs):
            raise ValueError(f"{path} must be what a sweep writes: jobs with a {key} of their own")
    return content


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def _is_job(job: Any) -> bool:
    if not (isinstance(job, dict) and type(job.get("number")) is int and 0 <= job["number"] < 2**31):
        return False
    # A job is in the sweep's directory, and nowhere else.
    if not (type(job.get("slurm_id", 0)) is int and 0 <= job.get("slurm_id", 0) < 2**63):
        return False
    name = job.get("directory")
    is_name = isinstance(name, str) and name.isprintable() and Path(name).name == name and name not in ("", "..")
    return is_name and _is_texts(job.get("overrides"))
