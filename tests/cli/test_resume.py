"""What ``resume=`` and ``rerun=`` come to: the plan, and every reason to reject one."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from backlit.cli.invocation import Invocation
from backlit.cli.plan import Plan
from backlit.cli.resume import plan_command
from backlit.errors import ConfigError
from backlit.runs.copy import copy_run
from backlit.runs.files import write_json
from backlit.training.build import build_run
from tests.conftest import CallCommand
from tests.helpers.commands import QUICK, compose_config
from tests.helpers.runs import change_record

TRAVERSED = "../../../tmp/evil"


def rejected(*arguments: str) -> str:
    """Return the one line with which a command is rejected by its plan, or by the build of its config."""
    invocation = Invocation()
    with invocation.as_current(), pytest.raises(ConfigError) as caught:
        plan_and_build(list(arguments))
    invocation.unlock()
    (line,) = str(caught.value).splitlines()
    return line


def plan_and_build(arguments: list[str]) -> None:
    plan = plan_command(arguments)
    overrides = [argument for argument in plan.arguments if not argument.startswith("hydra.run.dir=")]
    build_run(compose_config(*overrides), plan.run or Path(), plan.checkpoint, is_recorded=plan.is_recorded)


def test_a_command_without_resume_stays_as_it_is() -> None:
    assert plan_command(["-m", "lr=1,2"]) == Plan(["-m", "lr=1,2"])


def test_a_resume_is_the_recorded_command_with_the_last_checkpoint(points_run: Path) -> None:
    change_record(points_run, status="failed")
    plan = plan_command(["resume=latest", "trainer.max_epochs=3", "trainer.log_every_n_steps=7"])
    run = "outputs/points/runs/2026-01-01_00-00-00"
    assert plan.arguments == [
        *(override.replace("max_epochs=2", "max_epochs=3") for override in QUICK),
        "trainer.log_every_n_steps=7",
        f"ckpt_path='{run}/checkpoints/last.ckpt'",
        f"hydra.run.dir='{run}'",
    ]
    assert plan.run == Path(run)
    assert plan.checkpoint is not None
    assert plan.checkpoint.content["epoch"] == 1
    assert plan.is_recorded
    assert (plan.copy_of, plan.rerun_of, plan.sweep) == (None, None, None)


def test_a_resume_falls_back_to_the_previous_checkpoint(points_run: Path) -> None:
    change_record(points_run, status="failed")
    (points_run / "checkpoints" / "last.ckpt").write_bytes(b"")
    plan = plan_command(["resume=latest"])
    assert plan.checkpoint is not None
    assert plan.checkpoint.path.name == "previous.ckpt"


def test_a_resume_elsewhere_copies_the_run(points_run: Path) -> None:
    change_record(points_run, status="failed")
    plan = plan_command(["resume=latest", "hydra.run.dir=copy"])
    assert (plan.run, plan.copy_of) == (Path("copy"), points_run.relative_to(Path.cwd()))
    assert not Path("copy").exists()  # nothing is written before the config is checked
    with ExitStack() as undo:
        copy_run(points_run, Path("copy"), undo)
        undo.pop_all()
    assert "ckpt_path='copy/checkpoints/last.ckpt'" in plan.arguments
    assert "hydra.run.dir='copy'" in plan.arguments
    for path in points_run.rglob("*"):
        if path.is_file() and path.name != ".lock":
            assert (Path("copy") / path.relative_to(points_run)).read_bytes() == path.read_bytes()


def test_a_rerun_starts_from_the_beginning_in_a_directory_of_its_own(points_run: Path) -> None:
    own = f"ckpt_path='{points_run}/checkpoints/last.ckpt'"
    change_record(points_run, arguments=[*QUICK, own, f"hydra.run.dir='{points_run}'"])
    plan = plan_command(["rerun=latest", "seed=3"])
    assert plan.arguments == [*QUICK, "seed=3"]
    assert plan.rerun_of == Path("outputs/points/runs/2026-01-01_00-00-00")
    assert plan.is_recorded
    # Weights that it began with are no checkpoint of its own.
    change_record(points_run, arguments=[*QUICK, "ckpt_path=other.ckpt"])
    assert plan_command(["rerun=latest", "ckpt_path=other.ckpt"]).arguments == [*QUICK, "ckpt_path=other.ckpt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=nowhere"], "resume must be a run directory or 'latest', got nowhere, which does not exist"),
        (["resume=latest"], "resume=latest: there is no run in "),
        (["resume=."], "resume must be a run directory or 'latest', got ., which has no run.json"),
        (["rerun=nowhere"], "rerun must be a run directory or 'latest', got nowhere, which does not exist"),
        (["-m", "rerun=latest"], "rerun= must be without -m"),
        (["resume=latest", "rerun=latest"], "resume= and rerun= exclude each other"),
        (["-m", "resume=nowhere"], "resume must be the directory of a sweep or 'latest', got nowhere, which does not"),
        (["-m", "resume=latest"], "resume=latest: there is no sweep in "),
        (["-m", "resume=latest", "experiment=points"], "resume=latest: there is no sweep of experiment=points in "),
    ],
)
def test_a_resume_of_nothing_is_rejected(arguments: list[str], message: str) -> None:
    assert rejected(*arguments).startswith(message)


@pytest.mark.parametrize(
    ("given", "changes", "message"),
    [
        (["optimizer.lr=0.2"], {}, "optimizer.lr must not change when a run is resumed; a run of its own"),
        (["data.seed=1"], {}, "data.seed must not change when a run is resumed"),
        (["~scheduler"], {}, "~scheduler must not change when a run is resumed"),
        ([], {"arguments": [*QUICK, "model.hidden_sizes=[5]"]}, "ckpt_path must fit the model: net.fc1.weight has sha"),
        ([], {"arguments": None}, "resume must be a run that backlit-train has started, got "),
        ([], {"status": 3}, "resume=latest: "),
        ([], {"status": "completed"}, "resume must be a run that is not completed, got "),
    ],
)
def test_a_run_that_cannot_be_resumed_is_rejected(
    given: list[str], changes: dict[str, object], message: str, points_run: Path
) -> None:
    change_record(points_run, **{"status": "failed"} | changes)
    before = {path: path.read_bytes() for path in points_run.rglob("*") if path.is_file()}
    assert rejected("resume=latest", *given).startswith(message)
    assert {path: path.read_bytes() for path in points_run.rglob("*") if path.is_file()} == before


def test_a_run_that_is_running_is_not_resumed(points_run: Path) -> None:
    change_record(points_run, status="running", pid=7, host="here")
    with FileLock(points_run / ".lock"):
        message = f"resume must be a run that has ended, got {points_run.relative_to(Path.cwd())}: process 7 on here"
        assert rejected("resume=latest").startswith(message)


@pytest.mark.parametrize(
    ("status", "given", "message"),
    [
        ("failed", "trainer.max_epochs=1", "trainer.max_epochs must be >= 2 (epochs that the run has begun), got 1"),
        (
            "failed",
            "trainer.max_epochs=-1 trainer.max_steps=30",
            "trainer.max_steps must be >= 40 (steps that",
        ),
        ("completed", "trainer.max_epochs=2", "trainer.max_epochs must be > 2 (epochs that the completed run has done"),
        (
            "completed",
            "trainer.max_epochs=9 trainer.max_steps=40",
            "trainer.max_steps must be > 40 (steps that",
        ),
    ],
)
def test_a_run_is_not_resumed_for_less_than_it_has_done(
    status: str, given: str, message: str, points_run: Path
) -> None:
    change_record(points_run, status=status)
    assert rejected(f"resume={points_run}", *given.split(" ")).startswith(message)


def test_latest_is_the_latest_run_that_can_be_resumed(points_run: Path) -> None:
    change_record(points_run, status="failed")
    runs: dict[str, dict[str, object]] = {
        "1_completed": {"status": "completed"},
        "2_running": {"status": "running"},
        "3_from_python": {"status": "failed", "arguments": None},
        "4_unreadable": {"status": 3},
    }
    for name, changes in runs.items():
        shutil.copytree(points_run, points_run.parent / name)
        change_record(points_run.parent / name, **changes)
    with FileLock(points_run.parent / "2_running" / ".lock"):
        plan = plan_command(["resume=latest"])
        longer = plan_command(["resume=latest", "trainer.max_epochs=9"])
    assert (plan.run, longer.run) == (
        Path("outputs/points/runs", points_run.name),
        Path("outputs/points/runs/1_completed"),
    )


@pytest.mark.parametrize(("key", "value"), [("max_epochs", 2), ("max_steps", 800)])
def test_a_completed_run_names_what_trains_it_longer(key: str, value: int, points_run: Path) -> None:
    change_record(points_run, arguments=["experiment=points", f"trainer.{key}={value}"])
    assert rejected(f"resume={points_run}").endswith(
        f"; to train it longer: backlit-train resume=outputs/points/runs/{points_run.name} trainer.{key}=..."
    )


def test_damaged_checkpoints_are_reported(points_run: Path) -> None:
    change_record(points_run, status="failed")
    for name in ("last", "previous"):
        (points_run / "checkpoints" / f"{name}.ckpt").write_bytes(b"")
    assert rejected("resume=latest").endswith("and there is no previous checkpoint that can be read")


def test_a_rerun_needs_something_to_compare_with(points_run: Path) -> None:
    (points_run / "weights.pth").write_text("step,epoch")
    assert "weights.pth must be weights that torch.load(weights_only=True) reads" in rejected("rerun=latest")
    (points_run / "metrics.json").write_text("{}")
    assert "metrics.json must be a run's metrics" in rejected("rerun=latest")
    (points_run / "metrics.json").unlink()
    assert "must have a metrics.json to compare with, but has none" in rejected("rerun=latest")


def test_a_run_directory_with_a_link_is_rejected(points_run: Path, tmp_path: Path) -> None:
    change_record(points_run, status="failed")
    log = points_run / "train.log"
    kept = log.read_bytes()
    (tmp_path / "mine.txt").hardlink_to(log)
    assert rejected("resume=latest").startswith("resume must be a directory of files of its own, got ")
    log.unlink()
    log.symlink_to(tmp_path / "mine.txt")
    assert rejected("resume=latest").startswith("resume must be a directory without symbolic links, got ")
    assert (tmp_path / "mine.txt").read_bytes() == kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+callbacks.x._target_=os.system"], "callbacks.x of this run wants os.system, not backlit's; if you trust"),
        (["optimizer._target_=subprocess.run"], "optimizer of this run wants subprocess.run"),
        (["model._target_=torch.load"], "model of this run wants torch.load, which is no part of a run"),
        (
            ["+callbacks.x={_target_: backlit.training.train.train}"],
            "callbacks.x of this run wants backlit.training.train.train, which",
        ),
        (
            ["+hydra.callbacks.x._target_=os.system"],
            "'+hydra.callbacks.x._target_=os.system' is what this run was started",
        ),
        (["hydra.job_logging.root.level=DEBUG"], "'hydra.job_logging.root.level=DEBUG' is what this run was"),
        (["--config-dir", "theirs"], "'--config-dir theirs' is what this run was started with; if you trust it"),
        (["--experimental-rerun", "x.pickle"], "'--experimental-rerun x.pickle' is what this run was started with"),
        (["packages=[evil]", "model._target_=evil.Model"], "model of this run wants evil.Model"),
        (["hydra/launcher=joblib"], "'hydra/launcher=joblib' is what this run was started with"),
        ([f"experiment={TRAVERSED}"], f"'experiment={TRAVERSED}' is what this run was started with"),
        (["model=/tmp/evil"], "'model=/tmp/evil' is what this run was started with"),
        (["+trainer@hydra.callbacks.x=default"], "'+trainer@hydra.callbacks.x=default' is what this run was"),
        ([r"logger.tensorboard.save_dir='\${oc.create:x}'"], '"logger.tensorboard.save_dir='),
        ([r"+hydra.launcher.zz=$\{evil\}"], "'+hydra.launcher.zz="),
        (["hydra.sweeper.sampler.seed=1"], "'hydra.sweeper.sampler.seed=1' is what this run was started with"),
        (["task_name=../../elsewhere"], "'task_name=../../elsewhere' is what this run was started with"),
        (["tags=['a\nb']"], "\"tags=['a"),
        (
            ["callbacks.pictures.directory=/tmp/victim"],
            "'callbacks.pictures.directory=/tmp/victim' is what this run was",
        ),
        (["logger.tensorboard.save_dir=victim"], "'logger.tensorboard.save_dir=victim' is what this run was started"),
        (
            ["+callbacks.x={_target_: backlit.training.last_checkpoint.LastCheckpoint, path: notes.txt}"],
            "'+callbacks.x={_target_: backlit.training.last_checkpoint.LastCheckpoint, path: notes.txt}' is what this",
        ),
        (
            ["+logger.x={_target_: lightning.pytorch.loggers.WandbLogger}"],
            "logger.x of this run wants lightning.pytorc",
        ),
        (
            ["+callbacks.x={_target_: lightning.pytorch.demos.mnist_datamodule.MNISTDataModule}"],
            "callbacks.x of this run wants lightning.pytorch.demos",
        ),
        (["x=" + "[" * 3000], "a recorded argument must have at most 10,000 characters and 50 levels of brackets, got"),
        (["x=" + "9" * 9000 + "9" * 9000], "a recorded argument must have at most 10,000 characters and 50 levels"),
        (["a=1"] * 10_001, "there must be at most 10,000 recorded arguments, got 10,006"),
        (["packages=audio_pose", "+callbacks.x={_target_: io.FileIO, file: x}"], "'+callbacks.x={_target_: io.FileIO"),
    ],
)
@pytest.mark.parametrize("key", ["resume", "rerun"])
def test_a_command_from_a_stranger_runs_no_code(
    key: str, arguments: list[str], message: str, points_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("evil.py").write_text("open('exploded', 'w')")
    monkeypatch.syspath_prepend(Path.cwd())
    change_record(points_run, arguments=[*QUICK, *arguments], status="failed")
    before = sorted(points_run.rglob("*"))
    assert rejected(f"{key}=latest").startswith(message)
    assert not Path("exploded").exists()
    assert sorted(points_run.rglob("*")) == before


@pytest.mark.parametrize("key", ["resume", "rerun"])
def test_a_recorded_place_elsewhere_has_to_be_typed_again(key: str, points_run: Path) -> None:
    place, odd = "+data.data_dir=/data/mnist", "+data.more={file: 'a b'}"
    change_record(points_run, arguments=[*QUICK, place, odd, "hydra.run.dir=/tmp/elsewhere"], status="failed")
    with pytest.raises(ConfigError) as caught:
        plan_command([f"{key}=latest"])
    rule = "is what this run was started with, and names a place outside of its directory; to use it, type it again"
    assert caught.value.problems == [
        f"'{place}' {rule}: {place}",
        f'"{odd}" {rule}: ' + "'+data.more={file: '\"'\"'a b'\"'\"'}'",
    ]
    arguments = plan_command([f"{key}=latest", place, odd]).arguments
    assert arguments[len(QUICK) : len(QUICK) + 2] == [place, odd]
    assert "hydra.run.dir=/tmp/elsewhere" not in arguments
    assert "+data.data_dir=other" in plan_command([f"{key}=latest", "+data.data_dir=other", odd]).arguments


def test_the_checkpoint_that_a_run_began_with_is_needed_only_before_its_first_own(points_run: Path) -> None:
    change_record(points_run, arguments=[*QUICK, "ckpt_path=/other.ckpt"], status="failed")
    assert "ckpt_path=/other.ckpt" not in plan_command(["resume=latest"]).arguments
    for path in points_run.glob("checkpoints/*.ckpt"):
        path.unlink()
    assert rejected("resume=latest").endswith("to use it, type it again: ckpt_path=/other.ckpt")
    assert "ckpt_path=/other.ckpt" in plan_command(["resume=latest", "ckpt_path=/other.ckpt"]).arguments


def test_places_within_the_run_and_tags_are_taken_as_recorded(points_run: Path) -> None:
    inside = [f"+data.data_dir={points_run}/data", "tags=[/data/a]", "data.data_dir=data"]
    change_record(points_run, arguments=[*QUICK, *inside], status="failed")
    assert set(inside[1:]) < set(plan_command(["resume=latest"]).arguments)
    change_record(points_run, arguments=[*QUICK, inside[0]])
    assert inside[0] in plan_command(["resume=latest"]).arguments
    # A run that is copied, or trained again, writes nothing into the original.
    for more in (["resume=latest", "hydra.run.dir=copy"], ["rerun=latest"]):
        assert rejected(*more).endswith(f"type it again: {inside[0]}")


def test_a_pipe_in_a_run_directory_is_rejected(points_run: Path) -> None:
    change_record(points_run, status="failed")
    os.mkfifo(points_run / "train.fifo")
    assert rejected("resume=latest").startswith("resume must be a directory of files, got ")


def test_the_command_rejects_what_a_stranger_has_recorded(points_run: Path, call_command: CallCommand) -> None:
    change_record(points_run, arguments=[*QUICK, "+callbacks.x._target_=os.system"], status="failed")
    before = sorted(points_run.rglob("*"))
    for key in ("resume", "rerun"):
        ended = call_command("backlit-train", f"{key}=latest")
        assert ended.returncode == 2
        assert ended.stderr.startswith("error: callbacks.x of this run wants os.system")
    assert sorted(points_run.rglob("*")) == before
    assert [path.name for path in Path("outputs/points/runs").iterdir()] == [points_run.name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"arguments": [*QUICK, "-m", r"+hydra.launcher.zz=$\{evil\}"]}, "'+hydra.launcher.zz="),
        ({"jobs": [{"overrides": ["model=../x"], "directory": "0", "number": 0}]}, "'model=../x' is what this run"),
        (
            {"jobs": [{"overrides": [], "directory": "../victim", "number": 0}]},
            "resume must be a sweep whose sweep.json",
        ),
        (
            {"jobs": [{"overrides": ["data.data_dir=/tmp/victim"], "directory": "0", "number": 0}]},
            "'data.data_dir=/tmp/victim' is what this run was started with, and names a place outside",
        ),
        (
            {"jobs": [{"overrides": ["hydra.run.dir=sweep/x"], "directory": "0", "number": 0}]},
            "sweep/sweep.json must have jobs without settings of Hydra, got 0",
        ),
        ({"arguments": 3}, "resume must be a sweep whose sweep.json can be read"),
        ({"arguments": [3]}, "resume must be a sweep whose sweep.json can be read"),
        (
            {"jobs": [{"overrides": [["x"]], "directory": "0", "number": 0}]},
            "resume must be a sweep whose sweep.json can be read",
        ),
        ({"jobs": [{"x": 1}]}, "resume must be a sweep whose sweep.json can be read"),
        ({"jobs": []}, "resume must be a sweep whose jobs are known"),
    ],
)
def test_a_sweep_from_a_stranger_runs_no_code(
    content: dict[str, object], message: str, call_command: CallCommand, tmp_path: Path
) -> None:
    (tmp_path / "sweep").mkdir()
    job = {"overrides": [], "directory": "0", "number": 0}
    whole = {"arguments": [*QUICK, "-m", "optimizer.lr=1,2"], "jobs": [job]} | content
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(whole))
    assert rejected("-m", "resume=sweep").startswith(message)
    assert [path.name for path in tmp_path.rglob("*")] == ["sweep", "sweep.json"]


def test_a_config_from_a_stranger_does_not_reach_the_sweeps_report(call_command: CallCommand) -> None:
    for content in ('{"arguments": 3}', '{"jobs": [{"x": 1}]}', "["):
        Path("sweep").mkdir(exist_ok=True)
        Path("sweep", "sweep.json").write_text(content)
        ended = call_command("backlit-report", "sweep")
        assert ended.returncode == 2
        assert ended.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-m resume=sweep", "-m experiment=points lr=1,2 ~a"),
        ("-m lr=2,3 resume=sweep", "-m experiment=points lr=2,3 ~a"),
        ("-m +new=1 resume=sweep ++lr=5", "-m experiment=points ++lr=5 ~a +new=1"),
        ("-m resume=latest experiment=points", "-m experiment=points lr=1,2 ~a"),
        ("-m resume=sweep ~b", "-m experiment=points lr=1,2 ~a"),
        ("-m resume=sweep --config-dir my", "-m --config-dir my experiment=points lr=1,2 ~a"),
    ],
)
def test_a_sweep_is_resumed_with_what_has_changed(given: str, expected: str, tmp_path: Path) -> None:
    for directory in (tmp_path / "sweep", tmp_path / "outputs" / "points" / "sweeps" / "now"):
        directory.mkdir(parents=True)
        arguments = ["-m", "experiment=points", "lr=1,2", "~a"]
        if "--config-dir" in given:
            arguments += ["--config-dir", "my"]
        if "~b" in given:
            arguments += ["+b=1"]
        job = {"number": 0, "overrides": [], "directory": "0"}
        write_json(directory / "sweep.json", {"arguments": arguments, "jobs": [job]})
    assert plan_command(given.split(" ")).arguments == expected.split(" ")


def test_the_other_processes_get_the_plan_of_the_first() -> None:
    plan = Plan(["a='b c'"], run=Path("runs/1"), copy_of=Path("runs/0"))
    received = Plan.from_json(plan.to_json())
    # They neither copy the run nor read its checkpoint for the plan, and may work in another directory.
    assert received == Plan(["a='b c'"], run=Path("runs/1").resolve())
    assert received.is_recorded
