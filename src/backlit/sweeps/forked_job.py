"""The process that is forked for a job: it detaches from its parent, then runs the job by Hydra."""

import functools
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import rich
from hydra.core.utils import run_job
from omegaconf import DictConfig

from backlit.runs.files import describe_write_error, find_disk_error
from backlit.streams import open_dropping_stream
from backlit.sweeps.compose import job_config
from backlit.sweeps.fork import end_session, when_parent_ends
from backlit.sweeps.job import Job
from backlit.sweeps.sweep import Sweep


def run_forked_job(
    job: Job,
    parent: int,
    arguments: list[str],
    environment: dict[str, str],
    threads: int,
    sweep: Sweep,
) -> tuple[bool, Any]:
    """Run a job in the process that was forked for it.

    Args:
        job: The job.
        parent: The process id of the process that forked this one.
        arguments: The job's command-line arguments.
        environment: The job's environment variables.
        threads: Number of computing threads.
        sweep: What it has in common with the other jobs.

    Returns:
        Whether the job completed, and its value or the error.
    """
    try:
        _leave_parent(job.log_file, parent)
    except OSError as error:
        return False, describe_write_error(error)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [sys.argv[0], *arguments]
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    problems: list[str] = []

    @functools.wraps(sweep.task_function)
    def task(config: DictConfig) -> Any:
        _log_once()
        try:
            return sweep.task_function(config)
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")
            raise

    try:
        returned = run_job(
            hydra_context=sweep.hydra_context,
            task_function=task,
            config=job_config(sweep, job),
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
        )
    except (OSError, ValueError, SystemExit) as error:
        # The log or the config could not be written; the log itself may be unable to say so.
        if (disk_error := find_disk_error(error)) is None:
            raise
        return False, describe_write_error(disk_error)
    if problems:
        return False, problems[0]
    return True, returned.return_value


def _log_once() -> None:
    """Leave out the console's log if it goes to a file already: here the console is the same file."""
    root = logging.getLogger()
    to_files: list[logging.Handler] = [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]
    root.handlers = to_files or root.handlers


def _leave_parent(log_file: Path, parent: int) -> None:
    """Give a forked process its own session, signals and output; end it when its parent ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()  # from here on the parent's signals come, see `JobProcess.send_signal`
    when_parent_ends(parent, end_session)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = open_dropping_stream(1), open_dropping_stream(2)
    rich.reconfigure()  # no longer a terminal
