"""Sweeps as a person starts, kills and resumes them: real processes, by the console scripts."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from backlit.runs.run import Run
from tests.conftest import CallCommand, RunCommand
from tests.helpers.commands import QUICK
from tests.helpers.processes import processes_of_session, processes_with_files_below, wait_until
from tests.helpers.runs import only_run, only_sweep, read_record, saved_metrics
from tests.helpers.sweeps import (
    end_sweep,
    job_records,
    job_statuses,
    read_table,
    start_sweep,
    wait_for_checkpoint,
)

SHORT = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "callbacks=none"]
# Epochs of 20 steps: enough of them to catch a job while it runs.
EPOCHS = 30
LONG = [*SHORT, f"trainer.max_epochs={EPOCHS}"]

pytestmark = pytest.mark.process


def test_a_sweep_is_run_ranked_and_resumed(run_command: RunCommand, call_command: CallCommand, tmp_path: Path) -> None:
    done = run_command("backlit-train", "-m", *QUICK, "optimizer.lr=0.01,1e30,0.1", "hydra.launcher.n_jobs=2")
    assert (done.returncode, done.stderr) == (1, "")
    sweep = only_sweep()
    names = ["0_optimizer.lr_0.01", "1_optimizer.lr_1e+30", "2_optimizer.lr_0.1"]
    assert sorted(path.name for path in sweep.glob("*/")) == names
    assert job_statuses(sweep) == ["completed", "failed", "completed"]
    for name, record in zip(names, job_records(sweep), strict=True):
        (override,) = set(record["overrides"]) - set(QUICK)
        assert record["overrides"] == [*QUICK, override]
        assert record["command"] == " ".join(["backlit-train", *QUICK, override])
        lr = OmegaConf.load(sweep / name / ".hydra" / "config.yaml").optimizer.lr
        assert lr == float(override.removeprefix("optimizer.lr=")) == float(name.split("_")[-1])
    # A failed job does not touch the others; its log has the traceback.
    ((problem, log),) = re.findall(r"failed +job 1 optimizer.lr=1e\+30: (.*); see (.*)", done.stdout)
    assert problem.startswith("FloatingPointError: train/loss is nan at step 2")
    assert job_records(sweep)[1]["error"] == problem
    assert "Traceback" in Path(log).read_text()
    # The table has the best job first.
    losses = {name: saved_metrics(sweep / name) for name in (names[0], names[2])}
    ranked = sorted(losses, key=lambda name: losses[name]["val/loss_best"])
    rows = read_table(sweep / "sweep.csv")
    assert [Path(row["directory"]).name for row in rows] == [*ranked, names[1]]
    assert float(rows[0]["best val/loss"]) == pytest.approx(losses[ranked[0]]["val/loss_best"], rel=1e-4)
    assert (sweep / "sweep.png").read_bytes().startswith(b"\x89PNG")
    # The summary's commands do what they say.
    (evaluate,) = re.findall(r"the best  (.*)", done.stdout)
    assert f"{losses[ranked[0]]['test/loss']:.4f}" in call_command(*evaluate.split(" "), "resamples=20").stdout
    (repeat,) = re.findall(r"repeat +(.*)", done.stdout)
    assert call_command(*repeat.split(" ")).returncode == 0
    assert saved_metrics(only_run()) == losses[ranked[0]]
    # Resumed with other values, a sweep keeps what is completed, adds what is new and retries what has failed.
    more = run_command("backlit-train", "-m", *QUICK, "optimizer.lr=0.1,2", "resume=latest")
    assert more.returncode == 1, more.stderr
    assert "1 of 3 jobs are completed already" in more.stdout
    assert [line for line in more.stdout.splitlines() if line.endswith(" starts")] == [
        "job 3 optimizer.lr=2  starts",
        "job 1 optimizer.lr=1e+30  starts",
    ]
    assert job_statuses(sweep) == ["completed", "failed", "completed", "completed"]


def test_killed_jobs_are_reported_and_resumed(run_command: RunCommand) -> None:
    process = start_sweep(*LONG, "optimizer.lr=0.1,0.2,0.3", directory=Path.cwd())
    sweep = wait_for_checkpoint(process, "0_")
    first, second = sweep / "0_optimizer.lr_0.1", sweep / "1_optimizer.lr_0.2"
    os.kill(read_record(first)["pid"], signal.SIGKILL)
    wait_for_checkpoint(process, "1_")
    pid = read_record(second)["pid"]
    (second / "run.json").write_text('{"status": "runn')  # a broken record harms no other job
    os.kill(pid, signal.SIGKILL)
    code, output = end_sweep(process)
    assert code == 1, output
    assert "Traceback" not in output
    assert job_statuses(sweep) == ["failed", "failed", "completed"]
    assert [("killed by SIGKILL" in (record["error"] or "")) for record in job_records(sweep)] == [True, True, False]
    kept = job_records(sweep)[2]
    resumed = run_command("backlit-train", "-m", f"resume={sweep}", "hydra.launcher.n_jobs=2")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "job 0 optimizer.lr=0.1  resumes from its last checkpoint" in resumed.stdout
    assert job_statuses(sweep) == ["completed"] * 3
    assert job_records(sweep)[2] == kept
    rows = read_table(first / "metrics.csv")
    assert [int(row["epoch"]) for row in rows if row["val/loss"]] == list(range(EPOCHS))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] == 20 * EPOCHS


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_an_interrupted_sweep_leaves_no_process_and_resumes(
    number: signal.Signals, code: int, run_command: RunCommand
) -> None:
    arguments = [*SHORT, "trainer.max_epochs=40", "optimizer.lr=0.1,0.2,0.3", "hydra.launcher.n_jobs=2"]
    process = start_sweep(*arguments, directory=Path.cwd())
    wait_for_checkpoint(process, "0_")
    sweep = wait_for_checkpoint(process, "1_")
    returned, output = end_sweep(process, number)
    assert returned == code, output
    assert processes_with_files_below(sweep) == []
    assert job_statuses(sweep) == ["interrupted", "interrupted"]
    (command,) = re.findall(r"resume +(backlit-train .*?) +# 3 not completed", output)
    resumed = run_command(*command.split(" "))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert job_statuses(sweep) == ["completed"] * 3


@pytest.mark.parametrize("trainer", [pytest.param("cpu", marks=pytest.mark.soak), "ddp_cpu"])
def test_when_a_sweep_is_killed_its_jobs_end(trainer: str, call_command: CallCommand) -> None:
    endless = [*SHORT, "trainer.max_epochs=100000", f"trainer={trainer}"]
    process = start_sweep(*endless, "optimizer.lr=0.1,0.2", directory=Path.cwd())
    sweep = wait_for_checkpoint(process)
    (job,) = (record["pid"] for record in job_records(sweep))
    assert processes_of_session(job) != []
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not processes_with_files_below(sweep) and not processes_of_session(job))
    assert [run.status for path in sorted(sweep.glob("*/")) if (run := Run.read(path))] == ["interrupted"]
    assert "interrupted" in call_command("backlit-report", str(sweep)).stdout


def test_distributed_jobs_side_by_side_do_not_meet(run_command: RunCommand, tmp_path: Path) -> None:
    arguments = ["experiment=points", "trainer=ddp_cpu", "data.passes_per_epoch=20", "trainer.max_epochs=2"]
    grid = ["trainer.devices=1,2", "optimizer.lr=0.1,0.2", "hydra.launcher.n_jobs=2"]
    done = run_command("backlit-train", "-m", *arguments, "callbacks=none", *grid)
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep()
    assert [record["world_size"] for record in job_records(sweep)] == [1, 1, 2, 2]
    slow, fast, slow_by_two, fast_by_two = (saved_metrics(job)["val/loss"] for job in sorted(sweep.glob("*/")))
    # Two ranks of different jobs, with different learning rates, would not agree with one process.
    assert slow_by_two == pytest.approx(slow, rel=1e-5)
    assert fast_by_two == pytest.approx(fast, rel=1e-5)
    assert slow != pytest.approx(fast, rel=1e-2)
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["points"]
    assert processes_with_files_below(tmp_path) == []


def test_without_fork_each_job_starts_as_a_command(call_command: CallCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("fork", "job_process"):
        monkeypatch.setattr(f"backlit.sweeps.{module}.CAN_FORK", False)
    # The program is the console script, not pytest.
    Path("backlit-train").symlink_to(Path(sys.executable).parent / "backlit-train")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    ended = call_command("backlit-train", "-m", *QUICK, "optimizer.lr=0.1")
    assert ended.returncode == 0, ended.stderr
    (record,) = job_records(only_sweep())
    assert record["status"] == "completed"
    assert "hydra.run.dir=" in record["command"]  # a forked job gets its directory from its parent


def test_a_search_that_is_killed_twice_goes_on_with_the_same_trials(run_command: RunCommand) -> None:
    search = ["sweep=optuna", "hydra.sweeper.n_trials=4", "data.passes_per_epoch=5", "hydra.launcher.n_jobs=2"]
    process = start_sweep(*LONG, *search, directory=Path.cwd())
    sweep = wait_for_checkpoint(process, "1_")
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not processes_with_files_below(sweep))
    first = {record["overrides"][-3] for record in job_records(sweep)}
    process = start_sweep("resume=latest", directory=Path.cwd())
    wait_for_checkpoint(process, "2_")
    end_sweep(process, signal.SIGINT)
    resumed = run_command("backlit-train", "-m", "resume=latest", "hydra.sweeper.pruner=none")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resumes from its last checkpoint" in resumed.stdout
    records = job_records(sweep)
    assert {record["status"] for record in records} <= {"completed", "pruned"}
    assert len({json.dumps(record["overrides"]) for record in records}) == 4, "no trial is doubled"
    assert first <= {record["overrides"][-3] for record in records}
    pruned = [record["error"] for record in records if record["status"] == "pruned"]
    assert all(error.startswith("pruned at epoch ") for error in pruned)
    assert len(read_table(sweep / "sweep.csv")) == 4
