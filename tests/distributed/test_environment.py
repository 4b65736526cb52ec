"""What has started a process, and the directory that it shares with the others."""

import os
import socket
from typing import Any

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from backlit.distributed.environment import is_lightning_child, is_on_one_machine, launcher_environment
from backlit.distributed.rendezvous import local_store, share
from backlit.errors import RankError
from tests.helpers.processes import listening_addresses

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


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "2"}, True),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "1"}, False),
        (TORCHRUN, False),
        ({"SLURM_NTASKS": "2", "SLURM_NNODES": "1"}, True),
        ({"SLURM_NTASKS": "2", "SLURM_NNODES": "2"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_NNODES": "2", "SLURM_STEP_NUM_NODES": "1"}, True),
        ({"SLURM_NTASKS": "2"}, False),
    ],
)
def test_processes_on_one_machine_are_recognized(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    set_environment(monkeypatch, variables)
    assert is_on_one_machine() == expected


def test_the_store_of_one_machine_listens_on_the_loopback_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    before = listening_addresses(os.getpid())
    with local_store():
        assert listening_addresses(os.getpid()) - before <= {"0100007F"}
        assert os.environ["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
        # A second store of the same port is the same.
        more: Any = {"is_master": True, "wait_for_workers": False, "multi_tenant": True}
        store = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), **more)
        assert listening_addresses(os.getpid()) - before <= {"0100007F"}
        del store
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(RankError, match="MASTER_PORT must be a free port, got "), local_store():
            pass


def test_under_srun_on_one_machine_nobody_else_is_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    slurm = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NNODES": "1"}
    set_environment(monkeypatch, {f"SLURM_{name}": value for name, value in slurm.items()})
    set_environment(monkeypatch, {"SLURM_JOB_NAME": "x", "SLURM_NODELIST": "nowhere", "MASTER_PORT": str(free_port())})
    before = listening_addresses(os.getpid())
    _, store = share("plan", lambda: "a", timeout_s=10)
    assert share("directory", lambda: "b", timeout_s=10, store=store) == ("b", store)
    assert listening_addresses(os.getpid()) - before <= {"0100007F"}
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert share("directory", lambda: "another", timeout_s=10)[0] == "b"
    assert (os.environ["MASTER_ADDR"], os.environ["GLOO_SOCKET_IFNAME"]) == ("127.0.0.1", "lo")
    del store
