"""Sweeps as a person starts, kills and resumes them: real processes, by the console scripts."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import OmegaConf

from backlit.entry import CONFIG_DIR, cpu_threads
from backlit.jobs import Job
from backlit.run import Run
from backlit.sweep import _places, gpus_asked_for
from tests.conftest import RunCommand
from tests.processes import Started

SCRIPT = str(Path(sys.executable).parent / "backlit-train")
QUICK = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "trainer.max_epochs=2", "callbacks=none"]
# Long enough to be caught while it runs.
SLOW = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "callbacks=none"]
LONG = [*SLOW, "trainer.max_epochs=100"]


def the_sweep(tmp_path: Path) -> Path:
    (sweep,) = (tmp_path / "outputs" / "points" / "sweeps").iterdir()
    return sweep


def records(sweep: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(sweep.glob("*/run.json"))]


def statuses(sweep: Path) -> list[str]:
    return [record["status"] for record in records(sweep)]


def start(tmp_path: Path, *arguments: str) -> Started:
    return Started("backlit-train", "-m", *arguments, directory=tmp_path, together=True)


def wait_for_checkpoints(tmp_path: Path, jobs: int) -> Path:
    """Wait until some jobs have a checkpoint each and still train."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(list(tmp_path.glob("outputs/points/sweeps/*/*/checkpoints/last.ckpt"))) >= jobs:
            return the_sweep(tmp_path)
        time.sleep(0.05)
    raise AssertionError("no checkpoint appeared")


def processes_of(sweep: Path) -> list[int]:
    """Return the processes that have a file of a sweep open, or were started for it."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                links = [os.readlink(link) for link in (process / "fd").iterdir()]
            except OSError:
                continue
            if any(link.startswith(str(sweep)) for link in links):
                found.append(int(process.name))
    return found


def test_a_sweep_is_run_ranked_and_summed_up(run_command: RunCommand, tmp_path: Path) -> None:
    done = run_command("backlit-train", "-m", *QUICK, "optimizer.lr=0.01,0.1,1", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    sweep = the_sweep(tmp_path)
    names = ["0_optimizer.lr_0.01", "1_optimizer.lr_0.1", "2_optimizer.lr_1"]
    assert sorted(path.name for path in sweep.glob("*/")) == names
    for name, record in zip(names, records(sweep), strict=True):
        rate = name.split("_")[-1]
        assert record["status"] == "completed"
        assert record["overrides"] == [*QUICK, f"optimizer.lr={rate}"]
        assert record["command"] == " ".join(["backlit-train", *QUICK, f"optimizer.lr={rate}"])
        assert OmegaConf.load(sweep / name / ".hydra" / "config.yaml").optimizer.lr == float(rate)
    with (sweep / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = {path.parent.name: json.loads(path.read_text())["metrics"] for path in sweep.glob("*/metrics.json")}
    by_loss = sorted(names, key=lambda name: losses[name]["val/loss_best"])
    assert [Path(row["directory"]).name for row in rows] == by_loss
    assert float(rows[0]["best val/loss"]) == pytest.approx(losses[by_loss[0]]["val/loss_best"], rel=1e-4)
    assert (sweep / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert (sweep / "sweep.md").read_text().count("\n| ") == 4
    # What the summary says to type, typed.
    (judge,) = re.findall(r"the best +(.*)", done.stdout)
    judged = run_command(*judge.split(" "))
    assert f"{losses[by_loss[0]]['test/loss']:.4f}" in judged.stdout
    (again,) = re.findall(r"again +(.*)", done.stdout)
    assert run_command(*again.split(" ")).returncode == 0
    (run,) = (tmp_path / "outputs" / "points" / "runs").iterdir()
    assert json.loads((run / "metrics.json").read_text())["metrics"] == losses[by_loss[0]]
    # A sweep whose values have changed keeps what is done and adds what is new.
    more = run_command("backlit-train", "-m", *QUICK, "optimizer.lr=0.1,2", "resume=latest")
    assert more.returncode == 0, more.stderr
    assert "1 of 2 jobs are completed already" in more.stdout
    assert sorted(path.name for path in sweep.glob("*/")) == [*names, "3_optimizer.lr_2"]


def test_a_job_that_fails_does_not_touch_the_others(run_command: RunCommand, tmp_path: Path) -> None:
    done = run_command("backlit-train", "-m", *QUICK, "optimizer.lr=0.1,1e30,1")
    assert done.returncode == 1
    sweep = the_sweep(tmp_path)
    assert statuses(sweep) == ["completed", "failed", "completed"]
    (told,) = re.findall(r"failed +job 1 optimizer.lr=1e\+30: (.*); see (.*)", done.stdout)
    assert told[0].startswith("FloatingPointError: train/loss is nan at step 2")
    log = (tmp_path / told[1]).read_text()
    assert "Traceback" in log
    assert records(sweep)[1]["error"] == told[0]
    assert "FloatingPointError" in log


def test_a_killed_job_is_told_and_resumed(run_command: RunCommand, tmp_path: Path) -> None:
    process = start(tmp_path, *LONG, "optimizer.lr=0.1,0.2")
    sweep = wait_for_checkpoints(tmp_path, 1)
    os.kill(records(sweep)[0]["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert statuses(sweep) == ["failed", "completed"]
    assert "killed by SIGKILL" in records(sweep)[0]["error"]
    kept = records(sweep)[1]
    resumed = run_command("backlit-train", "-m", f"resume={sweep}")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "job 0 optimizer.lr=0.1  goes on from its last checkpoint" in resumed.stdout
    assert statuses(sweep) == ["completed", "completed"]
    assert records(sweep)[1] == kept
    with (sorted(sweep.glob("0_*"))[0] / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows if row["val/loss"]] == list(range(100))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] == 2000


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_an_interrupted_sweep_leaves_no_process_and_goes_on(
    number: signal.Signals, code: int, run_command: RunCommand, tmp_path: Path
) -> None:
    process = start(tmp_path, *LONG, "optimizer.lr=0.1,0.2,0.3", "hydra.launcher.n_jobs=2")
    sweep = wait_for_checkpoints(tmp_path, 2)
    before = (sweep / "sweep.json").read_text()
    second = run_command("backlit-train", "-m", f"resume={sweep}", "optimizer.lr=7")
    assert second.returncode == 2
    assert "is being run by another process" in second.stderr
    assert (sweep / "sweep.json").read_text() == before
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert processes_of(sweep) == []
    assert statuses(sweep) == ["interrupted", "interrupted"]
    (command,) = re.findall(r"go on +(.*?) +\(3 not completed\)", output)
    resumed = run_command(*command.split(" "))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert statuses(sweep) == ["completed"] * 3


@pytest.mark.parametrize("trainer", [pytest.param("cpu", marks=pytest.mark.soak), "ddp_cpu"])
def test_when_a_sweep_is_killed_its_jobs_end(trainer: str, run_command: RunCommand, tmp_path: Path) -> None:
    endless = [*SLOW, "trainer.max_epochs=100000"]
    process = start(tmp_path, *endless, f"trainer={trainer}", "optimizer.lr=0.1,0.2")
    sweep = wait_for_checkpoints(tmp_path, 1)
    (job,) = (record["pid"] for record in records(sweep))
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while (processes_of(sweep) or sessions(job)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(sweep) == []
    assert sessions(job) == []
    assert [run.status for path in sorted(sweep.glob("*/")) if (run := Run.read(path))] == ["interrupted"]
    assert run_command("backlit-report", str(sweep)).returncode == 0


def sessions(number: int) -> list[int]:
    """Return the processes of a session."""
    listed = subprocess.run(["ps", "-eo", "pid=,sid=,stat="], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, session, state in rows if int(session) == number and not state.startswith("Z")]


def test_a_broken_record_harms_nobody(run_command: RunCommand, tmp_path: Path) -> None:
    process = start(tmp_path, *LONG, "optimizer.lr=0.1,0.2")
    sweep = wait_for_checkpoints(tmp_path, 1)
    first = sorted(sweep.glob("0_*"))[0] / "run.json"
    pid = json.loads(first.read_text())["pid"]
    first.write_text('{"status": "runn')
    os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert statuses(sweep) == ["failed", "completed"]
    assert "Traceback" not in output
    # A bad value refuses the resume and changes nothing; what is left is done with the next one.
    before = (sweep / "sweep.json").read_text()
    refused = run_command("backlit-train", "-m", f"resume={sweep}", "optimizer.lr=-1")
    assert refused.returncode == 2, refused.stderr
    assert (sweep / "sweep.json").read_text() == before
    resumed = run_command("backlit-train", "-m", f"resume={sweep}", "optimizer.lr=0.5")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert statuses(sweep) == ["completed"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lr=0.1,1,-1"], "job 2 optimizer.lr=-1: optimizer.lr must be > 0 and finite, got -1"),
        (["optimizer.lx=0.1,1"], "optimizer.lx: no such key, did you mean optimizer.lr?"),
        (["optimizer=adam,nope"], "optimizer=nope: no such option; there are: adam,"),
        (["optimizer=adam,nope", "hydra/launcher=basic"], "optimizer=nope: no such option; there are: adam,"),
        (["seed=${nope},1"], "job 0 seed=$\\{nope\\}: Interpolation key 'nope' not found"),
        (["optimizer.lr=range(3,1)"], "a sweep must have at least one job, got none"),
        (["hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs must be >= 1, or -1 for as many as fit, got 0"),
        (["hydra.launcher.gpus_per_job=99"], "hydra.launcher.gpus_per_job must be <= "),
        (["resume=nowhere"], "resume must be the directory of a sweep or 'latest', got nowhere, which does not exist"),
        (["resume=."], "resume must be the directory of a sweep or 'latest', got ., which has no sweep.json"),
        (["resume=latest"], "resume=latest: there is no sweep of experiment=points in "),
    ],
)
def test_a_bad_sweep_starts_nothing(
    arguments: list[str], message: str, run_command: RunCommand, tmp_path: Path
) -> None:
    done = run_command("backlit-train", "-m", *QUICK, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {message}")
    assert " starts" not in done.stdout
    assert not [path for path in tmp_path.glob("outputs/**/*") if path.is_file()]
    assert not list(tmp_path.glob("outputs/*/sweeps/*"))


def test_distributed_jobs_have_their_own_world(run_command: RunCommand, tmp_path: Path) -> None:
    arguments = ["experiment=points", "trainer=ddp_cpu", "data.passes_per_epoch=20", "trainer.max_epochs=2"]
    devices = run_command("backlit-train", "-m", *arguments, "trainer.devices=1,2")
    assert devices.returncode == 0, devices.stdout + devices.stderr
    sweep = the_sweep(tmp_path)
    assert [record["world_size"] for record in records(sweep)] == [1, 2]
    rates = run_command("backlit-train", "-m", *arguments, "trainer.devices=2", "optimizer.lr=0.1,0.2")
    assert rates.returncode == 0, rates.stdout + rates.stderr
    both = sorted((tmp_path / "outputs" / "points" / "sweeps").iterdir())
    assert len(both) == 2
    weights = {}
    for job in both[1].glob("*/"):
        record = json.loads((job / "run.json").read_text())
        assert record["world_size"] == 2
        weights[job.name] = json.loads((job / "metrics.json").read_text())["metrics"]["val/loss"]
    # Two ranks with different rates would not agree with one process that has the same rate.
    alone = json.loads((next(sweep.glob("0_*")) / "metrics.json").read_text())["metrics"]["val/loss"]
    assert weights["0_optimizer.lr_0.1"] == pytest.approx(alone, rel=1e-5)
    assert weights["1_optimizer.lr_0.2"] != pytest.approx(alone, rel=1e-2)
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["points"]
    assert processes_of(tmp_path) == []


def test_other_platforms_start_every_job_anew(run_script: RunCommand, tmp_path: Path) -> None:
    arguments = [SCRIPT, "-m", *QUICK, "optimizer.lr=0.1,1e30"]
    code = f"import sys; sys.argv = {arguments!r}; import backlit.jobs; backlit.jobs.CAN_FORK = False\n"
    code += "from backlit.train import main; main()"
    done = run_script("python", "-c", code)
    assert done.returncode == 1, done.stderr
    assert statuses(the_sweep(tmp_path)) == ["completed", "failed"]


@pytest.mark.parametrize(("experiment", "middle"), [("mnist_mlp", 0.001), ("points", 0.1)])
def test_learning_rates_around_the_default(experiment: str, middle: float) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}", "sweep=lr"], return_hydra_config=True)
    assert cfg.hydra.mode == RunMode.MULTIRUN
    rates = [float(rate) for rate in cfg.hydra.sweeper.params["optimizer.lr"].split(",")]
    assert rates == pytest.approx([middle * 10 ** (k / 2) for k in range(-3, 4)], rel=0.03)
    assert rates[3] == middle


def test_a_search_by_optuna_survives_a_stop(run_command: RunCommand, tmp_path: Path) -> None:
    arguments = [*SLOW, "trainer.max_epochs=80", "sweep=optuna", "hydra.sweeper.n_trials=3"]
    process = start(tmp_path, *arguments)
    sweep = wait_for_checkpoints(tmp_path, 1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert statuses(sweep)[-1] == "interrupted"
    resumed = run_command("backlit-train", "-m", "resume=latest", "hydra.launcher.n_jobs=2")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "goes on from its last checkpoint" in resumed.stdout
    assert statuses(sweep) == ["completed"] * 3
    chosen = [tuple(record["overrides"]) for record in records(sweep)]
    assert len(set(chosen)) == 3


def job(**trainer: object) -> Job:
    return Job(0, [], OmegaConf.create({"trainer": trainer}), Path("job"), "")


@pytest.mark.parametrize(
    ("trainer", "n_jobs", "gpus_per_job", "expected"),
    [
        ({"accelerator": "cpu", "devices": 2}, 1, None, 0),
        ({"accelerator": "gpu", "devices": 2}, 1, None, 2),
        ({"accelerator": "gpu", "devices": 1}, 2, 2, 2),
        ({"accelerator": "gpu", "devices": 3}, 2, 2, 3),
        ({"accelerator": "auto", "devices": "auto"}, 1, None, 4),
        ({"accelerator": "auto", "devices": "auto"}, 2, None, 1),
        ({"accelerator": "cuda", "devices": -1}, 2, 2, 2),
        ({"accelerator": "gpu", "devices": [0, 1]}, 1, None, 2),
    ],
)
def test_gpus_asked_for(trainer: dict[str, object], n_jobs: int, gpus_per_job: int | None, expected: int) -> None:
    config = job(**trainer).config
    assert gpus_asked_for(config, ["4", "5", "6", "7"], n_jobs, gpus_per_job) == expected
    assert gpus_asked_for(config, [], n_jobs, gpus_per_job) == 0


def test_as_many_jobs_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert cpu_threads() == 8
    jobs = [job(accelerator="cpu", devices=2) for _ in range(9)]
    assert _places(jobs, -1, []) == 4
    assert _places(jobs, 3, []) == 3
    assert _places(jobs[:2], -1, []) == 2
    for one in jobs:
        one.gpus = 2
    assert _places(jobs, -1, ["0", "1", "2", "3", "4"]) == 2
