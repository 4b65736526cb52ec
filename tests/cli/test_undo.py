"""A command that starts nothing leaves the disk as it was: nothing of the user's is removed, nothing of ours stays."""

import signal
from pathlib import Path

import pytest

from backlit.data import PointsDataModule, TensorPairs
from backlit.errors import ConfigError
from backlit.training.train import train
from tests.conftest import CallCommand, Compose
from tests.helpers.commands import QUICK
from tests.helpers.runs import change_record

SWEEP = ["backlit-train", "-m", *QUICK, "optimizer.lr=0.1,-1"]


def content_of(directory: Path) -> dict[str, bytes | None]:
    paths = sorted(directory.rglob("*"))
    return {str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.process
@pytest.mark.parametrize("name", ["sweep.json", "optuna.journal", "multirun.yaml"])
def test_a_sweep_is_never_started_in_a_directory_with_files_of_a_sweep(
    name: str, call_command: CallCommand, tmp_path: Path
) -> None:
    Path("mine").mkdir()
    Path("mine", name).write_text("mine")
    ended = call_command(*SWEEP, "hydra.sweep.dir=mine")
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        "error: hydra.sweep.dir must be a directory without a sweep, got mine, which has one"
    )
    assert content_of(tmp_path) == {"mine": None, f"mine/{name}": b"mine"}


@pytest.mark.process
def test_a_rejected_sweep_removes_what_it_made_and_nothing_else(call_command: CallCommand, tmp_path: Path) -> None:
    Path("mine").mkdir()
    Path("mine", "notes.txt").write_text("mine")
    for directory in ("mine", "mine/new", "other/new"):
        assert call_command(*SWEEP, f"hydra.sweep.dir={directory}").returncode == 2
    assert call_command(*SWEEP).returncode == 2
    assert content_of(tmp_path) == {"mine": None, "mine/notes.txt": b"mine"}


@pytest.mark.parametrize("target", ["copy", "empty"])
def test_a_rejected_resume_leaves_no_copy(target: str, points_run: Path, call_command: CallCommand) -> None:
    Path("empty").mkdir()
    change_record(points_run, status="failed")
    before = content_of(Path.cwd())
    rejected = call_command("backlit-train", "resume=latest", f"hydra.run.dir={target}", "trainer.max_epochs=0")
    assert rejected.returncode == 2
    assert content_of(Path.cwd()) == before


def test_a_run_is_not_copied_into_itself(points_run: Path, call_command: CallCommand) -> None:
    change_record(points_run, status="failed")
    before = content_of(Path.cwd())
    rejected = call_command("backlit-train", "resume=latest", f"hydra.run.dir={points_run}/checkpoints/x")
    assert rejected.returncode == 2
    assert rejected.stderr.startswith("error: hydra.run.dir must be outside of the run that is resumed")
    assert content_of(Path.cwd()) == before


def test_a_damaged_run_is_not_copied(points_run: Path, call_command: CallCommand) -> None:
    change_record(points_run, status="failed")
    for path in points_run.glob("checkpoints/*.ckpt"):
        path.write_bytes(b"")
    before = content_of(Path.cwd())
    assert call_command("backlit-train", "resume=latest", "hydra.run.dir=copy").returncode == 2
    assert content_of(Path.cwd()) == before


def test_a_run_without_its_last_checkpoint_is_not_trained_from_the_beginning(
    points_run: Path, call_command: CallCommand
) -> None:
    for name in ("last", "previous"):
        (points_run / "checkpoints" / f"{name}.ckpt").unlink()
    before = content_of(Path.cwd())
    rejected = call_command("backlit-train", "resume=latest", "trainer.max_epochs=8")
    assert rejected.returncode == 2
    assert rejected.stderr.endswith("there must be a last.ckpt to resume from, but its checkpoints are: best.ckpt\n")
    assert content_of(Path.cwd()) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_checks_leaves_nothing(
    number: signal.Signals, code: int, call_command: CallCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    monkeypatch.setattr("backlit.training.build.build_components", interrupt)
    try:
        assert call_command("backlit-train", *QUICK).returncode == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert content_of(tmp_path) == {}


def test_a_config_that_is_rejected_in_python_leaves_nothing(composed: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimizer.lr must be > 0"):
        train(composed(*QUICK, "optimizer.lr=-1"))
    assert content_of(tmp_path) == {}


class WrongLabels(PointsDataModule):
    """Points whose labels are 1 and 2, which is known when they are set up."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.train_set = TensorPairs(self.train_set.inputs, self.train_set.targets + 1)


@pytest.mark.parametrize("chosen", [[], ["hydra.run.dir=mine"]])
def test_data_that_turn_out_to_be_wrong_leave_nothing(
    chosen: list[str], call_command: CallCommand, tmp_path: Path
) -> None:
    Path("mine").mkdir()
    Path("notes.txt").write_text("mine")
    ended = call_command("backlit-train", *QUICK, f"data._target_={__name__}.WrongLabels", *chosen)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: data must have int64 labels from 0 to 1 of shape (n,) in train_set, got 1 ")
    assert content_of(tmp_path) == {"mine": None, "notes.txt": b"mine"}


@pytest.mark.parametrize(
    "command",
    [
        ["backlit-evaluate", "run=latest", "trainer.max_epochs=3"],
        ["backlit-evaluate", "run=latest", "data.margin=9"],
        ["backlit-predict", "run=latest", "input=notes.txt"],
        ["backlit-export", "run=latest", "output=nowhere/x.pth", "format=onnx"],
    ],
)
def test_a_rejected_command_about_a_run_leaves_the_working_directory_as_it_is(
    command: list[str], points_run: Path, call_command: CallCommand, tmp_path: Path
) -> None:
    Path("notes.txt").write_text("mine")
    before = content_of(tmp_path)
    assert call_command(*command).returncode == 2
    assert content_of(tmp_path) == before
