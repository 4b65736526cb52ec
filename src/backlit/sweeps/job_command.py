"""A job as a command, for a machine that sees the same directories, and what it has left there when it has ended."""

import os
import sys
from pathlib import Path

from backlit.runs.bounded import MOST_CURVE_BYTES, read_text
from backlit.sweeps.attempts import read_run
from backlit.sweeps.job import Job
from backlit.text import printable


def job_command(job: Job, arguments: list[str], threads: int) -> list[str]:
    """Return the words of a command that starts a job, or resumes it from what its directory has.

    The command may be used several times: a job that is completed is not run again.

    Args:
        job: The job.
        arguments: Its command-line arguments, without its directory.
        threads: Number of computing threads of each of its processes.
    """
    module = sys.modules["__main__"].__spec__
    program = [os.path.abspath(sys.argv[0])] if module is None else ["-m", module.name.removesuffix(".__main__")]
    places = [str(job.directory.resolve()), str(Path.cwd())]
    # -P: the modules in the working directory are none of this program's.
    start = [sys.executable, "-P", "-m", "backlit.sweeps.start_job", *places, str(threads)]
    return [*start, *program, "--", *arguments]


def command_end(job: Job) -> tuple[bool, str | None]:
    """Return whether a job has completed, and otherwise why not, as its run directory says when the job has ended."""
    run = read_run(job.directory)
    if run is not None and run.record["status"] == "completed":
        return True, None
    if rejection := _last_error(job.log_file):
        return False, rejection
    if run is not None and run.record["status"] != "running":
        return False, str(run.record.get("error"))
    return False, "its process has ended without a record: killed, or its machine is gone"


def _last_error(log_file: Path) -> str:
    """Return the message in the last line of a log, with which a command ends that is rejected; "" for another line."""
    try:
        lines = read_text(log_file, MOST_CURVE_BYTES).strip().splitlines()
    except (OSError, ValueError):
        return ""
    last = lines[-1] if lines else ""
    return printable(last.removeprefix("error: ")) if last.startswith("error: ") else ""
