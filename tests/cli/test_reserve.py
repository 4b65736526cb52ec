"""The directory of a run: one that nobody else has, and none at all where the command is rejected."""

import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from backlit.training import build
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


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints", ".hydra", "train.log", "notes.txt"])
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_directory_with_somebodys_files_is_never_mixed_with_a_run(
    name: str, kind: str, call_command: CallCommand, tmp_path: Path
) -> None:
    (tmp_path / "mine" / name).mkdir(parents=True)
    flags = ["-m"] if kind == "sweep" else []
    ended = call_command("backlit-train", *flags, *QUICK, f"hydra.{kind}.dir=mine")
    assert ended.returncode == 2
    assert ended.stderr == f"error: hydra.{kind}.dir must be a new or empty directory, got mine, which has {name}\n"
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "mine", tmp_path / "mine" / name]


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_directory_that_another_command_has_reserved_stays_as_it_is(
    kind: str, call_command: CallCommand, tmp_path: Path
) -> None:
    flags = ["-m"] if kind == "sweep" else []
    (tmp_path / "one").mkdir()
    with FileLock(tmp_path / "one" / ".lock"):  # as another process has it
        ended = call_command("backlit-train", *flags, *QUICK, f"hydra.{kind}.dir=one")
        assert ended.returncode == 2
        assert ended.stderr.endswith("one is being run by another process; wait for it, or end it\n")
        assert (tmp_path / "one" / ".lock").exists()


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        (
            "run",
            {".hydra/config.yaml": "a: 1", "train.log": "", ".run.json.0123456789abcdef0123456789abcdef.partial": ""},
        ),
        ("sweep", {"sweep.json": '{"arguments": []}', "multirun.yaml": ""}),
    ],
)
def test_what_a_command_leaves_that_is_killed_when_it_starts_is_replaced(
    kind: str, files: dict[str, str], call_command: CallCommand, tmp_path: Path
) -> None:
    for name, text in (files | {".lock": ""}).items():
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / name).write_text(text)
    flags = ["-m"] if kind == "sweep" else []
    assert call_command("backlit-train", *flags, *BAD, f"hydra.{kind}.dir=one").returncode == 2
    if kind == "run":
        ended = call_command("backlit-train", *QUICK, "test=false", "hydra.run.dir=one")
        assert ended.returncode == 0, ended.stderr
        assert [name for name in os.listdir("one") if name.startswith(".")] == [".hydra"]


def test_an_undo_keeps_what_another_command_has_put_into_a_directory(
    call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_run = build.build_run

    def build_meanwhile(*arguments: Any, **more: Any) -> Any:
        Path("new/one/inner").mkdir()
        return build_run(*arguments, **more)

    monkeypatch.setattr(build, "build_run", build_meanwhile)
    assert call_command("backlit-train", *BAD, "hydra.run.dir=new/one").returncode == 2
    assert list(Path("new").rglob("*")) == [Path("new/one"), Path("new/one/inner")]


def test_a_directory_whose_name_is_no_utf_8_is_rejected(call_command: CallCommand, tmp_path: Path) -> None:
    ended = call_command("backlit-train", *QUICK, "hydra.run.dir='x\udcff'")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: hydra.run.dir must be a path in UTF-8, which TensorBoard needs, got x")
    assert list(tmp_path.iterdir()) == []


def test_the_config_of_a_run_is_what_hydra_would_write(call_command: CallCommand) -> None:
    ended = call_command("backlit-train", *QUICK, "test=false", "hydra.run.dir=run", "hydra.output_subdir=of_hydra")
    assert ended.returncode == 0, ended.stderr
    for name in ("config", "hydra", "overrides"):
        assert Path(f"run/.hydra/{name}.yaml").read_text() == Path(f"run/of_hydra/{name}.yaml").read_text()


@pytest.mark.parametrize("size", [0, 1_000])
def test_a_full_disk_when_a_run_starts_is_one_line_and_nothing_stays(
    size: int, call_command: CallCommand, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        ended = call_command("backlit-train", *QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.endswith(" cannot be written: File too large\n")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inodes", [4, 6, 8, 9])
def test_a_disk_without_room_for_files_is_one_line_and_nothing_stays(
    inodes: int, call_command: CallCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"nr_inodes={inodes}", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        with monkeypatch.context() as patch:
            patch.chdir(disk)
            ended = call_command("backlit-train", *QUICK)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
        assert ended.stderr.endswith(": No space left on device\n")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
