"""Several processes make one run, and none outlives another."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import DictConfig

from backlit.distributed.supervise import _watch
from backlit.runs.checkpoint import read_checkpoint
from backlit.runs.files import new_directory
from backlit.runs.run import read_rows
from backlit.training.train import train
from tests.conftest import Compose, RunCommand
from tests.helpers.processes import Started, listening_addresses, processes_by_arguments, wait_until
from tests.helpers.runs import only_run, read_record

pytestmark = pytest.mark.process

# No sample divides evenly: not of the last batch, nor of the validation and the test set.
UNEVEN = ["experiment=points", "data.train_size=33", "data.batch_size=8", "data.val_size=101", "data.test_size=1001"]
EACH_STEP = "trainer.log_every_n_steps=1"
ENDLESS = ["backlit-train", "experiment=points", "trainer=ddp_cpu", "trainer.max_epochs=100000", "callbacks=none"]


def assert_learned_what_one_learns(run: Path, config: DictConfig, tolerance: float, processes: int = 2) -> None:
    """Train with one process, and assert that a run of several has the same metrics at every step."""
    alone = new_directory(Path("alone").absolute())
    train(config, alone)
    rows = read_rows(alone / "metrics.csv")
    assert len(rows) > 100
    assert [row.keys() for row in read_rows(run / "metrics.csv")] == [row.keys() for row in rows]
    for row, expected in zip(read_rows(run / "metrics.csv"), rows, strict=True):
        assert row == pytest.approx(expected, abs=tolerance)
    one, two = (json.loads((directory / "metrics.json").read_text()) for directory in (alone, run))
    assert two["metrics"] == pytest.approx(one["metrics"], abs=tolerance)
    assert two["checkpoint"] == one["checkpoint"]
    record = read_record(run)
    assert (record["status"], record["world_size"]) == ("completed", processes)
    logs = ["train.log", *(f"train_ddp_process_{rank}.log" for rank in range(1, processes))]
    assert sorted(path.name for path in run.glob("*.log")) == logs
    assert (run / "train.log").read_text().count("completed in") == 1
    written = [path.name for path in run.rglob("*") if path.is_file()]
    assert len([name for name in written if "tfevents" in name and not name.endswith((".start", ".end"))]) == 1


def test_two_processes_learn_what_one_learns(
    tiny_mnist: list[str], composed: Compose, run_script: RunCommand, tmp_path: Path
) -> None:
    overrides = [*tiny_mnist, EACH_STEP, "trainer.max_epochs=1", "data.passes_per_epoch=8"]
    done = run_script("python", "-m", "backlit.train", "trainer=ddp_cpu", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes x " in done.stdout
    assert_learned_what_one_learns(only_run("*"), composed(*overrides, "callbacks=none"), tolerance=1e-4)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("overrides", "tolerance"),
    [
        (["experiment=points"], 1e-5),
        ([*UNEVEN, "data.passes_per_epoch=40", "trainer.accumulate_grad_batches=4"], 1e-5),
        (["experiment=mnist_mlp", "trainer.max_epochs=1", "trainer.limit_train_batches=200"], 1e-4),
    ],
)
def test_two_processes_learn_an_experiment_as_one(
    overrides: list[str], tolerance: float, composed: Compose, run_command: RunCommand
) -> None:
    done = run_command("backlit-train", *overrides, "trainer=ddp_cpu", EACH_STEP)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = composed(*overrides, "trainer=cpu", EACH_STEP, "callbacks=none")
    assert_learned_what_one_learns(only_run("*"), alone, tolerance)


@pytest.mark.soak
@pytest.mark.parametrize("per_node", [1, 2])
def test_processes_on_two_machines_make_one_run_and_learn_what_one_learns(
    per_node: int, composed: Compose, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", f"{per_node}", "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test", "-m", "backlit.train"]
    overrides = [*UNEVEN, "data.passes_per_epoch=9", EACH_STEP]
    two_nodes = ["trainer=ddp_cpu", f"trainer.devices={per_node}", "trainer.num_nodes=2"]
    agents = [Started(*torchrun, *two_nodes, *overrides, directory=tmp_path) for _ in range(2)]
    outputs = [agent.communicate() for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    run = only_run()
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    assert f"a step sees 8 samples: {2 * per_node} processes x {4 // per_node}" in (run / "train.log").read_text()
    assert (run / ".hydra" / "config.yaml").exists()
    assert sum("completed in" in output for output, _ in outputs) == 1  # the first process prints
    alone = composed("trainer=cpu", *overrides, "callbacks=none")
    assert_learned_what_one_learns(run, alone, tolerance=1e-5, processes=2 * per_node)


def start_two(directory: Path, *overrides: str) -> tuple[Started, int]:
    """Start an endless run of two processes; return the first, and the number of the second, when they train."""
    first = Started(*ENDLESS, f"hydra.run.dir={directory}", *overrides, directory=directory.parent, together=True)
    wait_until((directory / "metrics.csv").exists, process=first)
    (second,) = [pid for pid in processes_by_arguments(str(directory)) if pid != first.pid]
    for pid in (first.pid, second):
        assert listening_addresses(pid) <= {"0100007F"}  # 127.0.0.1: nobody else can connect
    assert listening_addresses(first.pid)
    return first, second


@dataclass(frozen=True)
class Death:
    """How one of two processes dies, and what is recorded.

    Args:
        which: The process, ``first`` or ``second``.
        number: The signal.
        reason: In the record and in a log.
        log: The log; None if what ended the run has none.
    """

    which: str
    number: signal.Signals
    reason: str
    log: str | None


FIRST_STOPPED = Death("first", signal.SIGSTOP, "RankError: the first process did not answer and was ended", None)
DEATHS = [
    Death("second", signal.SIGSTOP, "RankError: another process has ended or does not answer (", "train.log"),
    Death("second", signal.SIGKILL, "RankError: process 1 was killed by SIGKILL (", "train.log"),
    Death("first", signal.SIGKILL, "was killed, or the system ended it", "train_ddp_process_1.log"),
]


@pytest.mark.parametrize("deaths", [DEATHS, pytest.param([FIRST_STOPPED], marks=pytest.mark.soak)])
def test_a_run_ends_when_one_of_its_processes_does(deaths: list[Death], tmp_path: Path) -> None:
    started: dict[Path, tuple[Death, Started]] = {}
    try:
        # The first run waits for its stopped process while the others start.
        for number, death in enumerate(deaths):
            directory = tmp_path / f"run{number}"
            first, second = start_two(directory, "process_timeout=8")
            started[directory] = (death, first)
            os.kill(first.pid if death.which == "first" else second, death.number)
        for directory, (death, first) in started.items():
            assert_failed(directory, first, death)
    finally:
        for pid in processes_by_arguments(str(tmp_path)):
            os.kill(pid, signal.SIGKILL)


def assert_failed(directory: Path, first: Started, death: Death) -> None:
    output, _ = first.communicate(timeout=60)
    assert first.returncode == (-signal.SIGKILL if death.which == "first" else 1)
    wait_until(lambda: not processes_by_arguments(str(directory)), timeout=30)
    record = read_record(directory)
    assert record["status"] == "failed"
    assert death.reason in record["error"]
    assert "Traceback" not in output
    logs = [log.read_text() for log in directory.glob("*.log")]
    assert any("Traceback" in log for log in logs)
    if death.log is not None:
        log = (directory / death.log).read_text()
        assert death.reason.removeprefix("RankError: ") in log
        assert "Traceback" in log


@pytest.mark.parametrize(
    ("which", "number"), [("second", signal.SIGTERM), pytest.param("first", signal.SIGINT, marks=pytest.mark.soak)]
)
def test_all_processes_save_and_end_when_one_gets_a_signal(which: str, number: signal.Signals, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    first, second = start_two(directory)
    os.kill(first.pid if which == "first" else second, number)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + number, output
    assert not processes_by_arguments(str(directory))
    assert read_record(directory)["status"] == "interrupted"
    step = read_checkpoint(directory / "checkpoints" / "last.ckpt")["global_step"]
    interrupted, resume = output.splitlines()
    assert interrupted == f"interrupted at step {step}; the run directory is run"
    assert resume.split() == ["resume", "backlit-train", "resume=run"]


@pytest.mark.soak
def test_a_process_without_a_sample_takes_part_after_a_resume(run_command: RunCommand, tmp_path: Path) -> None:
    one_left = [
        *UNEVEN[:3],
        "trainer=ddp_cpu",
        "callbacks=none",
        "trainer.val_check_interval=4",
        "trainer.max_epochs=1",
    ]
    one_left += ["data.passes_per_epoch=1", "process_timeout=30"]
    assert run_command("backlit-train", *one_left, "hydra.run.dir=first").returncode == 0
    last = tmp_path / "second" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    shutil.copyfile(tmp_path / "first" / "checkpoints" / "best.ckpt", last)
    done = run_command("backlit-train", *one_left, "hydra.run.dir=second", f"ckpt_path={last}")
    assert done.returncode == 0, done.stdout + done.stderr
    of_epoch = [row for row in read_rows(tmp_path / "second" / "metrics.csv") if "train/acc" in row]
    assert [row["step"] for row in of_epoch] == [5]


@pytest.mark.parametrize(("ending", "code", "status"), [("130", 130, "interrupted"), ("3", 1, "failed")])
def test_a_run_whose_other_process_ctrl_c_has_ended_is_interrupted(
    ending: str, code: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    other = subprocess.Popen(["sh", "-c", f"exit {ending}"])
    other.wait()
    _watch(tmp_path, threading.Event(), [other], 0)
    for thread in threading.enumerate():
        if thread.name == "watch-ranks":
            thread.join()
    assert codes == [code]
    assert read_record(tmp_path)["status"] == status
