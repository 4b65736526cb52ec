"""``sweep.json``: the command of a sweep, and its jobs."""

from pathlib import Path
from typing import Any

from backlit.runs.bounded import read_json


def read_sweep(sweep_dir: Path) -> dict[str, Any]:
    """Return the content of ``sweep.json``: ``arguments`` of the command, ``started`` and ``jobs``, a dict a job.

    Raises:
        ValueError: If it is not what a sweep writes.
    """
    path = sweep_dir / "sweep.json"
    try:
        content: dict[str, Any] = {"jobs": []} | read_json(path)
    except FileNotFoundError:
        return {"jobs": []}
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} must be readable JSON, got: {error}") from None
    is_valid = _are_texts(content.get("arguments", [])) and isinstance(content["jobs"], list)
    for job in content["jobs"] if is_valid else []:
        is_valid = is_valid and isinstance(job, dict) and isinstance(job.get("number"), int)
        is_valid = is_valid and _are_texts(job.get("overrides")) and isinstance(job.get("directory"), str)
        # A job is in the sweep's directory, and nowhere else.
        is_valid = is_valid and Path(job["directory"]).name == job["directory"] != ".."
    if not is_valid:
        raise ValueError(f"{path} must be what a sweep writes: arguments; jobs with number, directory and overrides")
    return content


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
