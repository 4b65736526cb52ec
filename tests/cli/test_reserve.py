"""The directory of a run: one that nobody else has, and none at all where the command is rejected."""

from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import CallCommand
from tests.helpers.commands import QUICK
from tests.helpers.runs import change_record

BAD = [*QUICK, "optimizer.lr=-1"]


def test_a_run_is_never_mixed_into_another(call_command: CallCommand, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    ended = call_command("backlit-train", *QUICK, f"hydra.run.dir={tmp_path}")
    assert ended.returncode == 2
    assert f"hydra.run.dir must be a directory without a run, got {tmp_path}" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_directory_that_hydra_would_resolve_is_rejected(call_command: CallCommand, tmp_path: Path) -> None:
    ended = call_command("backlit-train", *QUICK, r"hydra.run.dir='a\${b}'")
    assert (ended.returncode, ended.stderr) == (2, "error: hydra.run.dir must be a path without ${, got a${b}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("directory", ["run", "new/deep/run"])
def test_a_rejected_command_removes_the_directories_that_it_made(
    directory: str, call_command: CallCommand, tmp_path: Path
) -> None:
    assert call_command("backlit-train", *BAD, f"hydra.run.dir={directory}").returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [[], ["notes.txt"]])
def test_a_rejected_command_never_removes_a_directory_that_existed(
    content: list[str], call_command: CallCommand, tmp_path: Path
) -> None:
    existing = tmp_path / "outer" / "existing"
    existing.mkdir(parents=True)
    for name in content:
        (existing / name).write_text("mine")
    assert call_command("backlit-train", *BAD, f"hydra.run.dir={existing}").returncode == 2
    assert [path.name for path in existing.iterdir()] == content
    # A new directory in it goes, the existing one stays.
    assert call_command("backlit-train", *BAD, f"hydra.run.dir={existing}/new").returncode == 2
    assert [path.name for path in existing.iterdir()] == content


def test_a_rejected_resume_elsewhere_leaves_no_copy(
    points_run: Path, call_command: CallCommand, tmp_path: Path
) -> None:
    change_record(points_run, status="failed")
    ended = call_command("backlit-train", "resume=latest", "hydra.run.dir=copy", "trainer.max_epochs=0")
    assert ended.returncode == 2
    assert not (tmp_path / "copy").exists()
    Path("existing").mkdir()
    Path("existing", "notes.txt").write_text("mine")
    ended = call_command("backlit-train", "resume=latest", "hydra.run.dir=existing")
    assert ended.stderr.startswith("error: hydra.run.dir must be an empty or new directory to resume the run in")
    assert Path("existing", "notes.txt").read_text() == "mine"


def test_a_run_is_resumed_by_one_process_at_a_time(points_run: Path, call_command: CallCommand) -> None:
    change_record(points_run, status="failed")
    before = {path: path.read_bytes() for path in points_run.rglob("*") if path.is_file()}
    with FileLock(points_run / ".lock"):  # as another process has it
        ended = call_command("backlit-train", "resume=latest", "trainer.max_epochs=3")
    assert ended.returncode == 2
    assert "is being run by another process; wait for it, or end it" in ended.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_a_sweep_inside_torchrun_is_rejected(
    call_command: CallCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ended = call_command("backlit-train", "-m", *QUICK, "optimizer.lr=0.1,0.2")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: -m must not run under torchrun or srun")
    assert list(tmp_path.iterdir()) == []
