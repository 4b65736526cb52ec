"""Where the jobs of a sweep run: what an engine does."""

import signal
from collections.abc import Sequence
from typing import Any, Protocol

from backlit.sweeps.job import Job


class RunningJob(Protocol):
    """A job that an engine has started."""

    job: Job

    def handles(self) -> list[Any]:
        """Return what `multiprocessing.connection.wait` can wait for; none for a job that can only be polled."""

    def has_ended(self) -> bool:
        """Return whether no process of the job runs any more."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the job, wherever it runs; nothing happens if it has ended."""

    def end(self) -> tuple[bool, Any]:
        """End what is left of the job, free its place; return whether it completed, and its value or the error."""


class Engine(Protocol):
    """Starts jobs somewhere.

    All that an engine need not know, composing, checking, recording, pruning, resuming, is done before and after.

    Args:
        is_elsewhere: Whether jobs run on other machines: with other accelerators, and maybe not at once.
        waits: Whether the launcher stays until the last job has ended.
    """

    is_elsewhere: bool
    waits: bool

    def prepare(self, jobs: Sequence[Job], n_jobs: int) -> list[list[str]]:
        """Set the number of each job's GPUs; return for each job what this engine cannot give it, a line a problem.

        Called once, before the first job starts.

        Args:
            jobs: The jobs of a grid, or examples of those of a search.
            n_jobs: How many jobs there are in all.

        Raises:
            ConfigError: If the engine cannot work here at all.
        """

    def has_room(self, job: Job | None) -> bool:
        """Return whether a job can start now; for None, whether some job could."""

    def has_job(self, job: Job) -> bool:
        """Return whether a job that an earlier launcher has started runs still, or waits; `start` follows it then."""

    def start(self, job: Job, arguments: list[str]) -> RunningJob:
        """Start a job, or resume it from what its directory has.

        Args:
            job: The job, with the checkpoint from which it resumes.
            arguments: Its command-line arguments, without its directory.

        Raises:
            OSError: If this job cannot be started.
        """

    def leave(self, running: Sequence[RunningJob]) -> bool:
        """Leave the jobs where they run, and say how to find them, when the launcher ends; False if it must end them.

        Args:
            running: The jobs that have not ended.
        """

    def close(self) -> None:
        """Release what the engine holds: after its last job has ended, or none has started. May be called again."""
