"""Where the jobs of a sweep come from."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from backlit.runs.run import Run
from backlit.sweeps.job import Job


class JobSource(Protocol):
    """Yields jobs when there is room for them, and is informed of how they do."""

    def remaining(self) -> int:
        """Return how many jobs are still to start, as far as that is known."""

    def next_job(self) -> Job | None:
        """Return a job to start; None if none is ready, now or ever."""

    def handles(self) -> list[Any]:
        """Return what `multiprocessing.connection.wait` can wait for until the next job is ready."""

    def find_losers(self, running: Sequence[Job]) -> dict[int, str]:
        """Return the running jobs that are not worth their time any more: number to reason."""

    def ended(self, job: Job, run: Run | None) -> None:
        """Take note that a job has ended, and how, as its run says; None if it has left none."""


class Grid:
    """All jobs of a grid, in their order.

    Args:
        jobs: The jobs.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = deque(jobs)

    def remaining(self) -> int:
        """Return how many jobs are still to start."""
        return len(self._jobs)

    def next_job(self) -> Job | None:
        """Return the next job; None after the last one."""
        return self._jobs.popleft() if self._jobs else None

    def handles(self) -> list[Any]:
        """Return nothing: a job is ready at once."""
        return []

    def find_losers(self, running: Sequence[Job]) -> dict[int, str]:
        """Return nothing: each job of a grid is wanted whole."""
        return {}

    def ended(self, job: Job, run: Run | None) -> None:
        """Ignore how a job ended: the others do not depend on it."""
