"""Sweeps on a real Ray: a cluster of two nodes on this machine, one of them killed, and a Ray of the sweep's own."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import CallCommand, RunCommand
from tests.helpers.processes import wait_until
from tests.helpers.runs import csv_curve, only_sweep, read_record, saved_metrics
from tests.helpers.sweeps import end_sweep, job_records, job_statuses, start_sweep, wait_for_checkpoint

pytestmark = [
    pytest.mark.process,
    # Not pytest.importorskip: Ray's import starts threads, and other tests fork this process.
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray"),
]

# Epochs of 20 steps, enough of them to catch a job while it runs.
LONG = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "callbacks=none", "trainer.max_epochs=150"]
ONE_EPOCH = ["experiment=points", "data.passes_per_epoch=10", "trainer.max_epochs=1", "callbacks=none"]
Tell = Callable[[str], str]


@contextlib.contextmanager
def ray_cluster() -> Iterator[tuple[str, Tell]]:
    """Start a cluster; yield its address, and a function that sends it a command and waits for the answer."""
    files = tempfile.mkdtemp(dir="/tmp")  # Ray's sockets need a short path
    environment = os.environ | {"RAY_TMPDIR": files, "RAY_USAGE_STATS_ENABLED": "0"}
    script = Path(__file__).parent / "helpers" / "ray_cluster.py"
    command = [sys.executable, "-P", str(script)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None

        def tell(command: str) -> str:
            print(command, file=cluster.stdin, flush=True)
            return str(cluster.stdout and cluster.stdout.readline())

        yield cluster.stdout.readline().strip(), tell
        assert cluster.poll() is None  # a sweep leaves a cluster as it is
        cluster.stdin.close()
        cluster.wait(60)
    shutil.rmtree(files)


def assert_every_step_once(run: Path) -> None:
    """Assert that a run which was resumed has its curve without a gap and without a repetition."""
    steps = [step for step, _ in csv_curve(run, "val/loss")]
    assert steps == list(range(20, 20 * len(steps) + 1, 20))


@pytest.fixture(autouse=True)
def marked_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all processes that a test starts a variable by which they are found."""
    monkeypatch.setenv("STARTED_BY_TEST", str(tmp_path))


def assert_nothing_is_left() -> None:
    """Assert that no process of the sweep, or of a Ray of its own, runs any more."""
    wait_until(lambda: not _marked_processes())


def _marked_processes() -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_marked = f"STARTED_BY_TEST={Path.cwd()}".encode() in (process / "environ").read_bytes()
            # The server that forks the commands, and these, have the environment of the first test.
            if is_marked and b"multiprocessing" not in (process / "cmdline").read_bytes():
                found.append(process)
    return found


def test_a_job_whose_machine_is_gone_goes_on_elsewhere_from_its_checkpoint() -> None:
    with ray_cluster() as (address, tell):
        launcher = start_sweep(
            *LONG,
            "optimizer.lr=0.1,0.3",
            "hydra/launcher=ray",
            f"hydra.launcher.ray_address={address}",
            directory=Path.cwd(),
        )
        wait_until(lambda: len(list(Path().glob("outputs/*/sweeps/*/*/checkpoints/last.ckpt"))) == 2, process=launcher)
        assert tell("kill") == "done\n"
        code, output = end_sweep(launcher)
    assert code == 0, output
    assert output.count("its machine is gone; it goes on elsewhere from its last checkpoint") == 1
    jobs = sorted(only_sweep().glob("*/"))
    records = [read_record(job) for job in jobs]
    assert [record["status"] for record in records] == ["completed", "completed"]
    assert sorted(len(record["attempts"]) for record in records) == [0, 1]
    for job in jobs:
        assert_every_step_once(job)
    assert_nothing_is_left()


@pytest.mark.soak
def test_a_ray_of_the_sweeps_own(run_command: RunCommand, call_command: CallCommand) -> None:
    done = run_command("backlit-train", "-m", *ONE_EPOCH, "optimizer.lr=0.1,1e30", "hydra/launcher=ray")
    assert (done.returncode, done.stderr) == (1, "")
    sweep = only_sweep()
    assert job_statuses(sweep) == ["completed", "failed"]
    assert "FloatingPointError: " in job_records(sweep)[1]["error"]
    first, _ = sorted(sweep.glob("*/"))
    # The record is that of a person, and the log has each line once.
    assert read_record(first)["arguments"] == [*ONE_EPOCH, "optimizer.lr=0.1", f"hydra.run.dir={first.resolve()}"]
    assert (first / "train.log").read_text().count("completed in") == 1
    again = call_command("backlit-train", f"rerun={first}")
    assert again.returncode == 0, again.stdout
    assert "bit-identical to" in again.stdout
    assert_nothing_is_left()


@pytest.mark.soak
def test_two_processes_of_a_job_learn_what_one_learns(run_command: RunCommand) -> None:
    arguments = [*ONE_EPOCH, "trainer=ddp_cpu", "trainer.devices=1,2", "hydra.launcher.engine=ray"]
    with ray_cluster() as (address, _):
        rejected = run_command("backlit-train", "-m", *arguments, f"hydra.launcher.ray_address={address}")
        assert rejected.returncode == 2
        rule = "hydra.launcher.cpus_per_job must be <= 1 (the CPUs of the largest machine)"
        assert rejected.stderr == f"error: job 1 trainer.devices=2: {rule}, got 2, one for each process\n"
        arguments += ["hydra.launcher.cpus_per_job=1"]
        done = run_command("backlit-train", "-m", *arguments, f"hydra.launcher.ray_address={address}")
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep()
    assert [(record["world_size"], record["threads"]) for record in job_records(sweep)] == [(1, 1), (2, 1)]
    one, two = (saved_metrics(job)["val/loss"] for job in sorted(sweep.glob("*/")))
    assert two == pytest.approx(one, rel=1e-5)
    assert_nothing_is_left()


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_ended_saves_its_jobs_and_goes_on(number: signal.Signals, run_command: RunCommand) -> None:
    launcher = start_sweep(*LONG, "optimizer.lr=0.1,0.3,0.2", "hydra/launcher=ray", directory=Path.cwd())
    sweep = wait_for_checkpoint(launcher)
    code, _ = end_sweep(launcher, number)
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    assert_nothing_is_left()
    assert set(job_statuses(sweep)) == {"interrupted"}
    resumed = run_command("backlit-train", "-m", f"resume={sweep}")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    jobs = sorted(sweep.glob("*/"))
    assert [read_record(job)["status"] for job in jobs] == ["completed"] * 3
    for job in jobs:
        assert_every_step_once(job)
    assert_nothing_is_left()


@pytest.mark.soak
def test_a_search_prunes_jobs_of_ray(run_command: RunCommand) -> None:
    pytest.importorskip("optuna")
    search = ["sweep=optuna", "hydra.sweeper.n_trials=6", "trainer.max_epochs=40", "optimizer.lr=choice(0.3,1e-6)"]
    done = run_command("backlit-train", *LONG[:-1], *search, "hydra/launcher=ray")
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = job_statuses(only_sweep())
    assert len(statuses) == 6
    assert set(statuses) == {"completed", "pruned"}
    assert_nothing_is_left()
