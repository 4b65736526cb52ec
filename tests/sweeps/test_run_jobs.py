"""The loop of a sweep whose jobs outlive it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from backlit.errors import JobsLeftError
from backlit.sweeps.engine import RunningJob
from backlit.sweeps.job import Job
from backlit.sweeps.job_source import Grid
from backlit.sweeps.run_jobs import run_jobs
from backlit.sweeps.sweep import Sweep
from tests.helpers.sweeps import make_job


class Place:
    """A job that does not end."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def handles(self) -> list[Any]:
        return []

    def has_ended(self) -> bool:
        return False

    def send_signal(self, number: int) -> None:
        raise AssertionError("the job is left alone")

    def end(self) -> tuple[bool, Any]:
        raise AssertionError("the job is left alone")


class Cluster:
    """An engine that does not wait, and has no room for some directories."""

    is_elsewhere = True
    waits = False

    def __init__(self, full: str) -> None:
        self.full = full
        self.left: list[str] = []

    def prepare(self, jobs: Sequence[Job], n_jobs: int) -> list[list[str]]:
        return [[] for _ in jobs]

    def has_room(self, job: Job | None) -> bool:
        return True

    def has_job(self, job: Job) -> bool:
        return False

    def start(self, job: Job, arguments: list[str]) -> Place:
        if job.directory.name == self.full:
            raise OSError("sbatch: full")
        return Place(job)

    def leave(self, running: Sequence[RunningJob]) -> bool:
        self.left = [one.job.directory.name for one in running]
        return True

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("full", "left", "code"), [("none", ["0", "1"], 0), ("0", ["1"], 1)])
def test_jobs_that_nobody_waits_for_are_left(full: str, left: list[str], code: int) -> None:
    unused: Any = None
    config = OmegaConf.create({"hydra": {"overrides": {"hydra": [], "task": []}}})
    engine = Cluster(full)
    with pytest.raises(JobsLeftError) as caught:
        run_jobs(Sweep(config, unused, unused), engine, Grid([make_job(Path(name)) for name in "01"]), {})
    assert (engine.left, caught.value.code) == (left, code)
