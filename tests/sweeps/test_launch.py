"""Errors of a sweep are reported before anything starts: the command runs in this process, its checks in children."""

import json
import multiprocessing
import signal
from pathlib import Path

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.types import RunMode

from backlit.config.conf import CONFIG_DIR
from backlit.runs.sweep_record import read_sweep
from tests.conftest import CallCommand
from tests.helpers.commands import QUICK
from tests.helpers.sweeps import write_sweep

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lr=0.1,1,-1"], "job 2 optimizer.lr=-1: optimizer.lr must be > 0 and finite, got -1"),
        (["optimizer.lr=0.1,1", "data.batch_size=0"], "data.batch_size must be >= 1 or null, got 0"),
        (["optimizer.lx=0.1,1"], "optimizer.lx: no such key, did you mean optimizer.lr?"),
        (["optimizer=adam,nope"], "optimizer=nope: no such option; there are: adam,"),
        (
            ["seed=1,2", "hydra/launcher=basic"],
            "hydra/launcher=basic: backlit has its own: type hydra.launcher.n_jobs=2",
        ),
        (["seed=1,2", "hydra/launcher=joblib"], "hydra/launcher=joblib: backlit has its own: type hydra.launcher."),
        (["seed=1,2", "hydra/launcher=submitit_slurm"], "hydra/launcher=submitit_slurm: backlit has its own: type "),
        (
            ["seed=1", "hydra.launcher.partition=x"],
            "hydra.launcher.partition is for engine=slurm, got x with engine=proc",
        ),
        (["seed=1", "hydra.launcher.wait=maybe"], "hydra.launcher.wait=maybe: Value 'maybe' is not a valid bool"),
        (["seed=${nope},1"], "job 0 seed=$\\{nope\\}: seed: Interpolation key 'nope' not found"),
        (["optimizer.lr=range(3,1)"], "a sweep must have at least one job, got none"),
        (
            ["seed=1,2", "hydra.sweep.subdir=same"],
            "hydra.sweep.subdir of job 1 seed=2 must be another than that of job 0 seed=1, got same for both",
        ),
        (
            ["seed=1", "hydra.sweep.subdir=../x"],
            "hydra.sweep.subdir of job 0 must be the name of a directory in the sweep's, got ../x",
        ),
        (
            ["seed=1", "hydra.sweep.subdir=a/b"],
            "hydra.sweep.subdir of job 0 must be the name of a directory in the sweep's, got a/b",
        ),
        (
            ["seed=1", "hydra.sweep.subdir=sweep.json"],
            "hydra.sweep.subdir of job 0 must be a new directory, got sweep.json, which exists in outputs/",
        ),
        (
            ["sweep=optuna", "hydra/launcher=slurm", "hydra.launcher.wait=false"],
            "hydra.launcher.wait must be true for a search: it needs the results, got false",
        ),
        (
            ["seed=1,2", "zoom=1", "hydra/launcher=slurm", "hydra.launcher.wait=false"],
            "zoom must be 0 with hydra.launcher.wait=false: it needs the results, got 1",
        ),
        (["hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs must be >= 1, or -1 for as many as fit, got 0"),
        (["hydra.launcher.gpus_per_job=0"], "hydra.launcher.gpus_per_job must be >= 1 or null, got 0"),
        (["hydra.launcher.gpus_per_job=99"], "hydra.launcher.gpus_per_job must be <= "),
        (["resume=nowhere"], "resume must be the directory of a sweep or 'latest', got nowhere, which does not exist"),
        (["resume=."], "resume must be the directory of a sweep or 'latest', got ., which has no sweep.json"),
        (["resume=latest"], "resume=latest: there is no sweep of experiment=points in "),
    ],
)
def test_a_bad_sweep_starts_nothing(
    arguments: list[str], message: str, call_command: CallCommand, tmp_path: Path
) -> None:
    ended = call_command("backlit-train", "-m", *QUICK, *arguments)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(f"error: {message}")
    assert " starts" not in ended.stdout
    assert not [path for path in tmp_path.glob("outputs/**/*") if path.is_file()]
    assert not list(tmp_path.glob("outputs/*/sweeps/*"))


@pytest.mark.parametrize(
    ("step", "number", "code"),
    [
        ("launch.import_for_jobs", signal.SIGTERM, 143),  # while a child composes the jobs
        ("process_engine.requested_gpus", signal.SIGINT, 130),  # before children check them
        ("run_jobs.prepare_attempt", signal.SIGTERM, 143),  # while a job starts
    ],
)
def test_a_sweep_that_is_interrupted_when_it_starts_leaves_no_process_and_can_be_started_again(
    step: str, number: signal.Signals, code: int, call_command: CallCommand
) -> None:
    command = ["-m", *QUICK, "optimizer.lr=0.1,0.2", "hydra.sweep.dir=sweep"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"backlit.sweeps.{step}", lambda *arguments: signal.raise_signal(number))
        ended = call_command("backlit-train", *command)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert multiprocessing.active_children() == []
    again = ["-m", "resume=sweep"] if Path("sweep").exists() else command
    ended = call_command("backlit-train", *again, "optimizer.lr=-1")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "optimizer.lr must be > 0 and finite, got -1" in ended.stderr


def test_a_rejected_resume_changes_nothing(call_command: CallCommand, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", {" ".join([*QUICK, "optimizer.lr=0.1"]): []})
    content = read_sweep(sweep) | {"arguments": ["-m", *QUICK, "optimizer.lr=0.1"]}
    (sweep / "sweep.json").write_text(json.dumps(content))
    before = (sweep / "sweep.json").read_text()
    ended = call_command("backlit-train", "-m", f"resume={sweep}", "optimizer.lr=-1")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "optimizer.lr must be > 0 and finite, got -1" in ended.stderr
    with FileLock(sweep / ".lock"):
        ended = call_command("backlit-train", "-m", f"resume={sweep}", "optimizer.lr=7")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "is being run by another process" in ended.stderr
    assert (sweep / "sweep.json").read_text() == before


def test_equal_jobs_run_once(call_command: CallCommand) -> None:
    ended = call_command(
        "backlit-train", "-m", *QUICK, "test=false", "seed=1,2", "optimizer.lr=0.1,1e-1", "hydra.sweep.dir=sweep"
    )
    assert ended.returncode == 0, ended.stderr
    assert "2 of 4 jobs repeat another one and run once with it" in ended.stdout
    assert [job["number"] for job in read_sweep(Path("sweep"))["jobs"]] == [0, 1]
    assert "(n = 2)" in ended.stdout
    assert not Path("sweep/.lock").exists()


@pytest.mark.parametrize(("experiment", "middle"), [("mnist_mlp", 0.001), ("points", 0.1)])
def test_sweep_lr_tries_learning_rates_around_the_default(experiment: str, middle: float) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}", "sweep=lr"], return_hydra_config=True)
    assert cfg.hydra.mode == RunMode.MULTIRUN
    rates = [float(rate) for rate in cfg.hydra.sweeper.params["optimizer.lr"].split(",")]
    assert rates == pytest.approx([middle * 10 ** (k / 2) for k in range(-3, 4)], rel=0.03)
    assert rates[3] == middle
