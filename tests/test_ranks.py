import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backlit import ranks
from backlit.config import problems
from backlit.load import read_checkpoint
from backlit.run import Run, read_rows
from backlit.train import train
from tests.conftest import Compose, RunCommand
from tests.processes import Started

BIN = Path(sys.executable).parent
# No sample divides evenly: not of the last batch, nor of the validation and the test set.
UNEVEN = ["experiment=points", "data.train_size=33", "data.batch_size=8", "data.val_size=101", "data.test_size=1001"]


def run_of(directory: Path) -> Path:
    (record,) = directory.glob("outputs/*/runs/*/run.json")
    return record.parent


@pytest.mark.parametrize(
    ("command", "overrides", "tolerance"),
    [
        (["backlit-train"], ["experiment=points"], 1e-5),
        (["python", "-m", "backlit.train"], [*UNEVEN, "data.passes_per_epoch=9"], 1e-5),
        (["backlit-train"], ["experiment=mnist_mlp", "trainer.max_epochs=1", "trainer.limit_train_batches=200"], 1e-4),
        pytest.param(
            *(["backlit-train"], [*UNEVEN, "data.passes_per_epoch=5", "trainer.strategy=ddp_spawn"], 1e-5),
            marks=pytest.mark.soak,
        ),
    ],
)
def test_two_processes_learn_what_one_learns(
    command: list[str],
    overrides: list[str],
    tolerance: float,
    composed: Compose,
    run_command: RunCommand,
    run_script: RunCommand,
    tmp_path: Path,
) -> None:
    each_step = "trainer.log_every_n_steps=1"
    run = run_script if command[0] == "python" else run_command
    done = run(*command, "trainer=ddp_cpu", *overrides, each_step)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes x " in done.stdout
    both = run_of(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    train(composed("trainer=cpu", *[o for o in overrides if "strategy" not in o], each_step, "callbacks=none"), alone)
    rows = read_rows(alone / "metrics.csv")
    assert len(rows) > 100
    assert [row.keys() for row in read_rows(both / "metrics.csv")] == [row.keys() for row in rows]
    for row, expected in zip(read_rows(both / "metrics.csv"), rows, strict=True):
        assert row == pytest.approx(expected, abs=tolerance)
    one, two = (json.loads((run / "metrics.json").read_text()) for run in (alone, both))
    assert two["metrics"] == pytest.approx(one["metrics"], abs=tolerance)
    assert two["checkpoint"] == one["checkpoint"]
    assert Run.read(both).record["world_size"] == 2  # type: ignore[union-attr]
    written = [path.name for path in both.rglob("*") if path.is_file()]
    # Where the processes are spawned, the one that spawns begins the events, and one of them goes on.
    streams = 2 if "trainer.strategy=ddp_spawn" in overrides else 1
    assert len([name for name in written if "tfevents" in name and not name.endswith(".end")]) == streams
    assert (both / "train_ddp_process_1.log").exists()
    assert (both / "train.log").read_text().count("completed in") == 1


def processes_of(text: str) -> list[int]:
    listed = subprocess.run(["ps", "-wweo", "pid=,stat=,args="], check=True, capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [int(pid) for pid, state, arguments in rows if text in arguments and not state.startswith("Z")]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("which", "number", "reason"),
    [
        ("other", signal.SIGKILL, "RankError: process 1 was killed by SIGKILL ("),
        ("other", signal.SIGSTOP, "RankError: another process is gone or does not answer ("),
        ("first", signal.SIGKILL, "was killed, or the system ended it"),
        pytest.param(
            *("first", signal.SIGSTOP, "RankError: the first process did not answer and was ended"),
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_run_ends_when_one_of_its_processes_does(
    which: str, number: signal.Signals, reason: str, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    command = ["backlit-train", "experiment=points", "trainer=ddp_cpu", "trainer.max_epochs=100000"]
    command += ["callbacks=none", "process_timeout=15", f"hydra.run.dir={directory}"]
    first = Started(*command, directory=tmp_path, together=True)
    try:
        wait_until((directory / "metrics.csv").exists)
        (other,) = [pid for pid in processes_of(str(directory)) if pid != first.pid]
        os.kill(first.pid if which == "first" else other, number)
        output, _ = first.communicate(timeout=60)
        assert first.returncode == (-signal.SIGKILL if which == "first" else 1)
        wait_until(lambda: not processes_of(str(directory)), seconds=30)
    finally:
        for pid in processes_of(str(directory)):
            os.kill(pid, signal.SIGKILL)
    run = Run.read(directory)
    assert run is not None
    assert run.status == "failed"
    assert reason in run.record["error"]
    log = directory / ("train_ddp_process_1.log" if which == "first" else "train.log")
    if (which, number) != ("first", signal.SIGSTOP):  # what ended it has no log
        assert reason.removeprefix("RankError: ") in log.read_text()
    assert "Traceback" in log.read_text()
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("which", "number"), [("other", signal.SIGTERM), pytest.param("first", signal.SIGINT, marks=pytest.mark.soak)]
)
def test_all_processes_save_and_end_when_one_gets_a_signal(which: str, number: signal.Signals, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = ["backlit-train", "experiment=points", "trainer=ddp_cpu", "trainer.max_epochs=100000"]
    first = Started(*command, "callbacks=none", f"hydra.run.dir={directory}", directory=tmp_path, together=True)
    wait_until((directory / "metrics.csv").exists)
    (other,) = [pid for pid in processes_of(str(directory)) if pid != first.pid]
    os.kill(first.pid if which == "first" else other, number)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + number, output
    assert not processes_of(str(directory))
    run = Run.read(directory)
    assert run is not None
    assert run.status == "interrupted"
    step = read_checkpoint(directory / "checkpoints" / "last.ckpt")["global_step"]
    assert output == f"interrupted at step {step}; what there is: {directory}\n"


def agents(count: int, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run torchrun's agents, each with two processes, as on so many machines."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(BIN / "torchrun"), "--nnodes", str(count), "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test", "-m", "backlit.train"]
    started = [
        subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    ended = [(process, *process.communicate(timeout=120)) for process in started]
    return [subprocess.CompletedProcess([], process.returncode, out, err) for process, out, err in ended]


def test_processes_on_two_machines_make_one_run(tmp_path: Path) -> None:
    quick = ["data.passes_per_epoch=10", "data.batch_size=20", "trainer.max_epochs=1"]
    done = agents(2, "experiment=points", "trainer=ddp_cpu", "trainer.num_nodes=2", *quick)
    assert [each.returncode for each in done] == [0, 0], done
    run = run_of(tmp_path)
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["world_size"]) == ("completed", 4)
    assert sorted(path.name for path in run.glob("*.log")) == [
        "train.log",
        *(f"train_ddp_process_{rank}.log" for rank in (1, 2, 3)),
    ]
    assert "a step sees 20 samples: 4 processes x 5" in (run / "train.log").read_text()
    assert (run / ".hydra" / "config.yaml").exists()
    assert sum("completed in" in each.stdout for each in done) == 1  # one of them tells


@pytest.fixture
def of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun tells the second of two processes."""
    told = {"TORCHELASTIC_RUN_ID": "test", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("of_torchrun")
def test_what_torchrun_started_must_fit_the_config(composed: Compose) -> None:
    found = problems(composed("experiment=points", "trainer=cpu"))
    assert found == ["trainer.devices x trainer.num_nodes must be 2 (the processes started here), got 1 x 1"]


@pytest.mark.usefixtures("of_torchrun")
def test_a_sweep_inside_torchrun_is_refused(run_command: RunCommand, tmp_path: Path) -> None:
    done = run_command("backlit-train", "-m", "experiment=points", "optimizer.lr=0.1,0.2")
    assert done.returncode == 2
    assert done.stderr.startswith("error: -m must not run under torchrun or srun")
    assert not list(tmp_path.glob("outputs/**/*"))


def test_a_sweep_job_in_an_allocation_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.cluster() is None
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "sweep")
    assert ranks.cluster() is None


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
    done = run_command("backlit-train", *one_left, "hydra.run.dir=second", "ckpt_path=first/checkpoints/best.ckpt")
    assert done.returncode == 0, done.stdout + done.stderr
    of_epoch = [row for row in read_rows(tmp_path / "second" / "metrics.csv") if "train/acc" in row]
    assert [row["step"] for row in of_epoch] == [5]


def test_config_without_a_launcher_is_for_one_machine(composed: Compose) -> None:
    found = problems(composed("experiment=points", "trainer=ddp_cpu", "trainer.num_nodes=2"))
    assert found == ["trainer.num_nodes must be 1 unless torchrun or srun starts the processes, got 2"]
