"""What has started a process, and the directory that it shares with the others."""

import os
import socket

import pytest

from backlit.distributed.environment import is_lightning_child, launcher_environment
from backlit.distributed.rendezvous import share
from backlit.errors import RankError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "test", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_", "LOCAL_RANK"))]:
        monkeypatch.delenv(name)


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_torchrun_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, TORCHRUN)
    environment = launcher_environment()
    assert environment is not None
    assert (environment.global_rank(), environment.world_size()) == (1, 2)
    assert not is_lightning_child()


def test_a_child_of_lightning_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_lightning_child()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert is_lightning_child()
    assert launcher_environment() is None


def test_a_sweep_job_in_an_allocation_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launcher_environment() is None
    set_environment(monkeypatch, {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "sweep"})
    assert launcher_environment() is None


def test_without_a_launcher_the_process_chooses_itself() -> None:
    assert share("directory", lambda: "a", timeout_s=1) == ("a", None)


def test_the_choice_of_the_first_process_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, TORCHRUN | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})
    monkeypatch.setenv("RANK", "0")
    chosen, store = share("directory", lambda: "a", timeout_s=10)
    assert chosen == "a"
    monkeypatch.setenv("RANK", "1")
    assert share("directory", lambda: "another", timeout_s=10)[0] == chosen
    del store


def test_a_first_process_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, TORCHRUN | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})
    with pytest.raises(RankError, match=r"the first process does not answer at 127.0.0.1:\d+: "):
        share("directory", str, timeout_s=0.2)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
