"""The engine for Ray, with a driver that the test plays."""

import importlib.util
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from backlit.errors import ConfigError, JobError
from backlit.runs.files import lock_directory
from backlit.sweeps.choose_engine import choose_engine
from backlit.sweeps.ray_engine import RayEngine
from backlit.sweeps.sweep import Sweep
from tests.conftest import CallCommand
from tests.helpers.commands import QUICK
from tests.helpers.sweeps import make_job

SWEEP = Sweep(OmegaConf.create({"hydra": {"sweep": {"dir": "sweep"}}}), None, None)  # type: ignore[arg-type]


class PlayedDriver:
    """Takes the place of the driver's process."""

    pid = 2**30  # of no process

    def __init__(self, engine: RayEngine, *machines: tuple[float, float]) -> None:
        engine._connection, self.connection = multiprocessing.Pipe()
        engine._driver = self  # type: ignore[assignment]
        engine._machines = list(machines)

    def wait(self, timeout: float | None = None) -> None:
        """End at once."""

    def received(self) -> list[Any]:
        """Return what the engine has sent, without what starts a job."""
        found = []
        while self.connection.poll():
            message = self.connection.recv()
            found.append(message[:2] if message[0] == "start" else message)
        return found


@pytest.fixture
def ray_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ray be installed, and no cluster be known."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def make_engine(**settings: Any) -> RayEngine:
    engine = choose_engine("ray", SWEEP, **settings)
    assert isinstance(engine, RayEngine)
    return engine


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"ray_address": "host"}, "ray_address must be HOST:PORT, auto or null, got host"),
        ({"ray_address": 6379}, "ray_address must be HOST:PORT, auto or null, got 6379"),
        ({"cpus_per_job": 0}, "cpus_per_job must be >= 1 or null, got 0"),
        ({"partition": "p"}, "partition is for engine=slurm, got p with engine=ray"),
    ],
)
def test_keys_out_of_their_range(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_engine(**settings)
    assert str(caught.value) == f"hydra.launcher.{line}"


def test_its_address_is_for_no_other_engine() -> None:
    with pytest.raises(ConfigError, match="ray_address is for engine=ray, got auto with engine=processes"):
        choose_engine("processes", SWEEP, ray_address="auto")


@pytest.mark.parametrize(
    ("is_installed", "line"),
    [
        (False, "needs Ray: pip install 'backlit[ray]'"),
        (True, "finds no cluster at 127.0.0.1:1: Connection refused"),
    ],
)
def test_without_ray_or_a_cluster_nothing_starts(
    is_installed: bool, line: str, call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    found: Any = lambda name, *more: (name if is_installed else None) if name == "ray" else real(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", found)
    ended = call_command(
        "backlit-train", "-m", *QUICK, "seed=1,2", "hydra/launcher=ray", "hydra.launcher.ray_address=127.0.0.1:1"
    )
    assert (ended.returncode, ended.stderr) == (2, f"error: hydra.launcher.engine=ray {line}\n")
    assert not list(Path().glob("outputs/*/sweeps/*"))


@pytest.mark.usefixtures("ray_here")
def test_a_job_that_no_machine_can_take_is_rejected() -> None:
    jobs = [make_job(accelerator="gpu", devices=devices) for devices in (1, 3, [0, 1])]
    jobs += [make_job(accelerator="cpu", devices=6), make_job()]
    engine = make_engine()
    PlayedDriver(engine, (4, 0), (2, 2))
    assert engine.prepare(jobs, n_jobs=2) == [
        [],
        ["a job must have at most 2 GPUs (those of the largest machine), got 3"],
        [],
        ["hydra.launcher.cpus_per_job must be <= 4 (the CPUs of the largest machine), got 6, one for each process"],
        [],
    ]
    engine = make_engine(cpus_per_job=4, gpus_per_job=1)
    PlayedDriver(engine, (4, 0), (2, 2))
    assert engine.prepare([make_job()], n_jobs=2) == [["no machine has both 4 CPUs and 1 GPUs"]]


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(("n_jobs", "room"), [(None, 5), (3, 3), (9, 9)])
def test_ray_has_as_many_jobs_as_its_machines_have_room_for(n_jobs: int | None, room: int) -> None:
    engine = make_engine(n_jobs=n_jobs, cpus_per_job=2)
    driver = PlayedDriver(engine, (4, 0))
    engine.prepare([make_job()], n_jobs=2)
    driver.connection.send(("machines", [(4, 0), (7, 0)]))  # another one has come
    started = 0
    while engine.has_room(None):
        job = make_job()
        job.number = started
        engine.start(job, [])
        started += 1
    assert started == room
    driver.connection.send(("ended", 0, None))
    running = engine._jobs[0]
    assert running.has_ended()
    assert running.end() == (False, "its process has ended without a record: killed, or its machine is gone")
    assert engine.has_room(None)


@pytest.mark.usefixtures("ray_here")
def test_a_job_goes_on_elsewhere_when_nothing_of_it_runs_any_more_but_not_forever() -> None:
    engine = make_engine()
    driver = PlayedDriver(engine, (1, 0))
    running = engine.start(make_job(), [])
    assert driver.received() == [("start", 0)]
    with lock_directory(Path("job")):
        driver.connection.send(("lost", 0, "a node has died"))
        assert not running.has_ended()
        assert driver.received() == []
    assert not running.has_ended()
    assert driver.received() == [("start", 0)]
    for _ in range(3):
        driver.connection.send(("lost", 0, "a node has died"))
        ended = running.has_ended()
    assert ended
    assert running.end() == (False, "its machine was lost 4 times: a node has died")
    assert driver.received() == [("start", 0), ("start", 0), ("end", 0)]


@pytest.mark.usefixtures("ray_here")
def test_a_job_that_is_stopped_does_not_go_on_elsewhere() -> None:
    engine = make_engine()
    driver = PlayedDriver(engine, (1, 0))
    running = engine.start(make_job(), [])
    running.send_signal(signal.SIGTERM)
    driver.connection.send(("lost", 0, "a node has died"))
    assert running.has_ended()
    assert driver.received() == [("start", 0), ("send_signal", 0, 15)]


@pytest.mark.usefixtures("ray_here")
def test_a_sweep_ends_once_when_ray_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    driver = PlayedDriver(engine, (1, 0))
    running = engine.start(make_job(), [])
    driver.connection.close()
    with pytest.raises(JobError):
        engine.has_room(None)
    assert "Ray is gone: its process has ended; to go on: backlit-train -m" in caplog.text
    running.send_signal(signal.SIGTERM)
    assert running.has_ended()
    assert not running.end()[0]
    engine.close()
    engine.close()
