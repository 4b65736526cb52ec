"""Becomes a job of a sweep on the machine that it was sent to, as a new run, or where an earlier attempt has ended.

``python -m backlit.sweeps.start_job DIRECTORY WORKING_DIRECTORY THREADS PROGRAM... -- ARGUMENTS...``: PROGRAM is what
follows ``python``, ARGUMENTS are the job's. The process becomes that command, so that all signals reach it, and the run
records what a person would have typed.
"""

import os
import sys
from pathlib import Path

from backlit.distributed.environment import LAUNCHER_VARIABLES
from backlit.runs.run import Run, clear_run
from backlit.sweeps.job import JOB_DIRECTORY
from backlit.text import assignment


def main() -> None:
    """Become the command of a job; a job that is completed is left as it is."""
    directory, working_directory, threads, *rest = sys.argv[1:]
    end = rest.index("--")
    os.chdir(working_directory)
    typed = job_arguments(Path(directory), rest[end + 1 :])
    if typed is None:
        print(f"{directory} is completed already")
        return
    os.execve(sys.executable, [sys.executable, *rest[:end], *typed], job_environment(Path(directory), int(threads)))


def job_arguments(directory: Path, arguments: list[str]) -> list[str] | None:
    """Return what is to be typed for a job now: for a new run, or to resume it; None if it is completed.

    Args:
        directory: The job's directory, an absolute path.
        arguments: The job's arguments.

    Raises:
        ValueError: If its record cannot be read.
    """
    run = Run.read(directory)
    if run is not None and run.record["status"] == "completed":
        return None
    if run is not None and any((directory / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "previous")):
        # What is typed again is trusted. The weights that the run has begun with are in its checkpoint.
        again = [argument for argument in arguments if not argument.startswith("ckpt_path=")]
        return [*again, assignment("resume", str(directory))]
    if run is not None:
        clear_run(directory)
    return [*arguments, assignment("hydra.run.dir", str(directory))]


def job_environment(directory: Path, threads: int) -> dict[str, str]:
    """Return the environment of a job: it is no rank of the program in which the sweep, or its engine, runs.

    Args:
        directory: The job's directory, which no other run has.
        threads: Number of computing threads of each of its processes.
    """
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    return kept | {"OMP_NUM_THREADS": str(threads), JOB_DIRECTORY: str(directory)}


if __name__ == "__main__":
    main()
