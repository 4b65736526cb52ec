"""Against a real Slurm of one node on this machine: Debian's slurmctld, slurmd, slurm-client and munge, as root."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.slurm import read_queue
from tests.conftest import CallCommand, RunCommand
from tests.helpers.processes import Started, wait_until
from tests.helpers.runs import csv_curve, only_sweep, read_record, saved_metrics
from tests.helpers.sweeps import end_sweep, job_records, job_statuses, start_sweep, wait_for_checkpoint

BIN = Path(sys.executable).parent
ONE_EPOCH = ["experiment=points", "data.passes_per_epoch=10", "trainer.max_epochs=1", "callbacks=none"]
# Epochs of 20 steps, enough of them to catch a job while it runs.
LONG = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "callbacks=none", "trainer.max_epochs=100"]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "srun", "munged"))),
        reason="needs Slurm, munge and root",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("slurm")
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(str(free.getsockname()[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(directory / "slurm.conf"))
        script = Path(__file__).parent / "start_slurm.sh"
        subprocess.run(["sh", str(script), str(directory), *ports], check=True)
        try:
            deadline = time.monotonic() + 30
            while "idle" not in subprocess.run(["sinfo"], capture_output=True, text=True, check=False).stdout:
                assert time.monotonic() < deadline, [log.read_text() for log in directory.glob("*.log")]
                time.sleep(0.2)
            yield
        finally:
            for name in ("slurmd", "slurmctld", "munged"):
                os.kill(int((directory / f"{name}.pid").read_text()), signal.SIGTERM)


def test_srun_starts_the_processes_of_one_run(tmp_path: Path) -> None:
    command = [
        "srun",
        "--nodes",
        "1",
        "--ntasks-per-node",
        "2",
        str(BIN / "backlit-train"),
        *ONE_EPOCH,
        "trainer=ddp_cpu",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("completed in") == 1
    (path,) = tmp_path.glob("outputs/points/runs/*/run.json")
    record = json.loads(path.read_text())
    assert (record["status"], record["world_size"]) == ("completed", 2)
    assert sorted(log.name for log in path.parent.glob("*.log")) == ["train.log", "train_ddp_process_1.log"]


def test_a_sweep_is_slurm_jobs(run_command: RunCommand, call_command: CallCommand) -> None:
    done = run_command("backlit-train", "-m", *ONE_EPOCH, "optimizer.lr=0.1,1e30", "hydra/launcher=slurm")
    assert (done.returncode, done.stderr) == (1, "")
    sweep = only_sweep()
    assert job_statuses(sweep) == ["completed", "failed"]
    assert "FloatingPointError: train/loss is nan" in job_records(sweep)[1]["error"]
    assert "the best  backlit-evaluate run=outputs/points/sweeps/" in done.stdout
    ids = [job["slurm_id"] for job in read_sweep(sweep)["jobs"]]
    assert len(set(ids)) == 2
    first, _ = sorted(sweep.glob("*/"))
    # The record is that of a person, and the log has each line once.
    assert read_record(first)["arguments"] == [*ONE_EPOCH, "optimizer.lr=0.1", f"hydra.run.dir={first.resolve()}"]
    assert (first / "train.log").read_text().count("completed in") == 1
    again = call_command("backlit-train", f"rerun={first}")
    assert again.returncode == 0, again.stdout
    assert "bit-identical to" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lr=0.1,-1"], "job 1 optimizer.lr=-1: optimizer.lr must be > 0 and finite, got -1"),
        (
            ["hydra.launcher.partition=nope", "seed=1,2"],
            "Slurm rejects the job: sbatch: invalid partition specified: nope; "
            "allocation failure: Invalid partition name specified",
        ),
        (
            ["hydra.launcher.cpus_per_job=999", "seed=1,2"],
            "Slurm rejects the job: sbatch: allocation failure: Requested node configuration is not available",
        ),
        (
            ["trainer=gpu", "hydra.launcher.options=[--nonsense]"],
            "job 0: Slurm rejects the job: sbatch: unrecognized option '--nonsense'; Try \"sbatch --help\" for more ",
        ),
    ],
)
def test_a_sweep_that_is_wrong_submits_nothing(
    arguments: list[str], message: str, call_command: CallCommand, tmp_path: Path
) -> None:
    ended = call_command("backlit-train", "-m", *ONE_EPOCH, *arguments, "hydra/launcher=slurm")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith(f"error: {message}")
    assert read_queue() == {}
    assert not list(tmp_path.glob("outputs/*/sweeps/*"))


def test_a_sweep_goes_on_without_its_launcher_and_each_job_from_its_checkpoint(run_command: RunCommand) -> None:
    launcher = start_sweep(*LONG, "optimizer.lr=0.1,0.3", "hydra/launcher=slurm", directory=Path.cwd())
    wait_until(lambda: len(list(Path().glob("outputs/*/sweeps/*/*/checkpoints/last.ckpt"))) == 2, process=launcher)
    sweep = only_sweep()
    wait_until(lambda: all("slurm_id" in job for job in read_sweep(sweep)["jobs"]), process=launcher)
    requeued, cancelled = (job["slurm_id"] for job in read_sweep(sweep)["jobs"])
    call_slurm("scontrol", "requeue", str(requeued))
    call_slurm("scancel", str(cancelled))
    launcher.wait_for("job 1 optimizer.lr=0.3  failed: SIGTERM")
    assert job_statuses(sweep)[1] == "interrupted"
    launcher.kill()
    launcher.wait()
    assert list(read_queue()) == [requeued]
    start_soon(requeued)
    resumed = run_command("backlit-train", "-m", "resume=latest")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    for job in sorted(sweep.glob("*/")):
        record = read_record(job)
        assert (record["status"], [one["status"] for one in record["attempts"]]) == ("completed", ["interrupted"])
        assert record["first_step"] > 0
        assert_every_step_once(job)
    first, second = (job["slurm_id"] for job in read_sweep(sweep)["jobs"])
    assert first == requeued  # it was followed, not submitted again
    assert second != cancelled
    assert "repeat    backlit-train experiment=points" in resumed.stdout
    assert "ckpt_path" not in resumed.stdout


def test_jobs_that_nobody_waits_for_are_followed_left_and_queued_again_at_their_time_limit(
    run_command: RunCommand,
) -> None:
    left = run_command(
        "backlit-train", "-m", *LONG, "optimizer.lr=0.1", "hydra/launcher=slurm", "hydra.launcher.wait=false"
    )
    assert (left.returncode, "sweep.csv" in left.stdout) == (0, False), left.stderr
    sweep = only_sweep()
    ((slurm_id,),) = [re.findall(r"cancel    scancel (\d+)\n", left.stdout)]
    (follow,) = re.findall(r"follow    (backlit-train .*)\n", left.stdout)
    following = Started(*shlex.split(follow), directory=Path.cwd(), together=True)
    wait_for_checkpoint(following)
    following.wait_for("is in the queue")
    code, output = end_sweep(following, signal.SIGINT)
    assert code == 130
    assert f"cancel    scancel {slurm_id}\n" in output
    call_slurm("scancel", "--batch", "--signal=USR1", slurm_id)  # what Slurm does a minute before the limit
    wait_until(lambda: read_queue()[int(slurm_id)].state == "PENDING")
    (job,) = sweep.glob("*/")
    assert read_record(job)["status"] == "interrupted"
    start_soon(int(slurm_id))
    wait_until(lambda: read_record(job)["status"] == "completed", timeout=120)
    assert_every_step_once(job)
    assert len(read_record(job)["attempts"]) == 1
    done = run_command("backlit-train", "-m", "resume=latest")
    assert done.returncode == 0
    assert "1 of 1 jobs are completed already" in done.stdout


def test_two_processes_of_a_job_learn_what_one_learns(run_command: RunCommand) -> None:
    arguments = [*ONE_EPOCH, "trainer=ddp_cpu", "trainer.devices=1,2", "hydra.launcher.engine=slurm"]
    done = run_command("backlit-train", "-m", *arguments, "hydra.launcher.cpus_per_job=2")
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep()
    records = job_records(sweep)
    assert [(record["world_size"], record["threads"]) for record in records] == [(1, 2), (2, 1)]
    one, two = (saved_metrics(job)["val/loss"] for job in sorted(sweep.glob("*/")))
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.soak
def test_a_real_time_limit_comes_and_the_job_goes_on(run_command: RunCommand) -> None:
    arguments = [*LONG, "trainer.max_epochs=100000", "trainer.max_time=00:00:01:10", "optimizer.lr=0.1"]
    slurm = ["hydra/launcher=slurm", "hydra.launcher.time=2"]
    done = run_command("backlit-train", "-m", *arguments, *slurm, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = only_sweep().glob("*/")
    assert len(read_record(job)["attempts"]) >= 1
    steps = [step for step, _ in csv_curve(job, "val/loss")]
    assert steps == sorted(set(steps))


def call_slurm(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60)


def start_soon(slurm_id: int) -> None:
    """Start a job that was queued again; Slurm would wait two minutes, and at once it could not."""
    wait_until(lambda: read_queue()[slurm_id].reason == "BeginTime")
    call_slurm("scontrol", "update", f"JobId={slurm_id}", "StartTime=now+3")


def assert_every_step_once(run: Path) -> None:
    """Assert that a run which was resumed has its curve without a gap and without a repetition."""
    steps = [step for step, _ in csv_curve(run, "val/loss")]
    assert steps == list(range(20, 20 * len(steps) + 1, 20))
