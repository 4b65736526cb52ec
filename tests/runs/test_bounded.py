"""Files of a stranger's run directory: no waiting for a pipe, no memory without bounds, one line."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backlit.load import load_run, read_config
from backlit.runs.bounded import read_json, read_text, read_yaml
from backlit.runs.checkpoint import find_last_checkpoint, read_checkpoint
from backlit.runs.record import finish_record
from backlit.runs.run import Run, flat_config, read_rows
from backlit.runs.sweep_record import read_sweep

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


def make_directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_directory, make_pipe, make_device])
def test_what_is_no_file_is_not_read(make: Callable[[Path], None], points_run: Path) -> None:
    make(Path("x"))
    with pytest.raises(ValueError, match="x must be a file, got a directory or a device"):
        read_text(Path("x"))
    checkpoint = points_run / "checkpoints" / "last.ckpt"
    make(checkpoint)
    with pytest.raises(ValueError, match="must be a checkpoint, but is no file"):
        read_checkpoint(checkpoint)
    found = find_last_checkpoint(points_run)
    assert found is not None
    assert found.path.name == "previous.ckpt"
    for name in ("metrics.csv", "metrics.json", "uncommitted.diff", ".hydra/config.yaml"):
        make(points_run / name)
    calls: list[Callable[[], Any]] = [
        lambda: Run.read(points_run),
        lambda: read_rows(points_run / "metrics.csv"),
        lambda: flat_config(points_run),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be a file, got a directory or a device"):
            call()
    with pytest.raises(ValueError, match=r"has no \.hydra/config.yaml"):
        load_run(points_run)
    make(points_run / "run.json")
    with pytest.raises(ValueError, match=r"run\.json must be a file, got a directory or a device"):
        Run.read(points_run)
    make(points_run / "sweep.json")
    with pytest.raises(ValueError, match=r"sweep\.json must be a file, got a directory or a device"):
        read_sweep(points_run)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 10**6, "too deeply nested"),
        ('{"a":' * 10**5, "too deeply nested"),
        ("9" * 10**5, "Exceeds the limit"),
        ('{"status": ' + "9" * 10**5 + "}", "Exceeds the limit"),
        ("\udcff", "must be text, got other bytes"),
        (" " * 2**25, "must be at most 16 MB, and is larger"),
    ],
)
def test_a_record_of_absurd_size_is_one_line(content: str, reason: str, little_memory: None) -> None:
    for name in ("run.json", "sweep.json", "x.json"):
        Path(name).write_bytes(content.encode(errors="surrogateescape"))
    calls: list[Callable[[], Any]] = [
        lambda: Run.read(Path()),
        lambda: read_sweep(Path()),
        lambda: read_json(Path("x.json")),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=reason) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LAUGHS, r"must be YAML without aliases, got \*a0"),
        ("a: &x 1\nb: *x\n", r"must be YAML without aliases, got \*x"),
        ("[" * 10**5, "is nested too deeply"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, "is nested too deeply"),
        ("".join(f"{' ' * n}a:\n" for n in range(200)), "is nested too deeply"),
        ("a: " + "9" * 10**5, "must be YAML with values of at most 10,000 characters"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: " + "59:" * 10**5 + "1", "must be YAML with values of at most 10,000 characters"),
        ("a: " + "59:" * 3000 + "1", "Exceeds the limit"),
        ("#" * 2**21, "must be at most 1 MB, and is larger"),
    ],
)
def test_a_config_of_absurd_size_is_one_line(content: str, reason: str, little_memory: None) -> None:
    Path(".hydra").mkdir()
    Path(".hydra", "config.yaml").write_text(content)
    for read in (flat_config, read_config):
        with pytest.raises(ValueError, match=reason) as caught:
            read(Path())
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_a_config_keeps_its_values(points_run: Path) -> None:
    path = points_run / ".hydra" / "config.yaml"
    assert read_yaml(path) == path.read_text()
    assert read_config(points_run).optimizer.lr == 0.1


def test_curves_that_cannot_be_read_are_one_line() -> None:
    Path("metrics.csv").write_text("step,epoch,val/loss\n1,0,0.5\n")
    assert read_rows(Path("metrics.csv")) == [{"step": 1, "epoch": 0, "val/loss": 0.5}]
    for content in ("step,epoch\n" + "9" * 9000 + ",1\n", 'step\n"' + "x" * 200_000 + '"\n', "step\n1\0\n"):
        Path("metrics.csv").write_text(content)
        with pytest.raises(ValueError, match=r"^metrics\.csv, line \d, must be a record of a run: .{,100}$"):
            read_rows(Path("metrics.csv"))


def test_a_checkpoint_that_is_packed_is_not_unpacked(little_memory: None) -> None:
    torch.save({"state_dict": {}}, "whole.ckpt")
    assert read_checkpoint(Path("whole.ckpt")) == {"state_dict": {}}
    with zipfile.ZipFile("bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive, zipfile.ZipFile("whole.ckpt") as whole:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name))
        archive.writestr("archive/data/0", b"\0" * 10**7)
    with pytest.raises(ValueError, match=r"bomb\.ckpt is damaged, or no checkpoint"):
        read_checkpoint(Path("bomb.ckpt"))


def test_a_record_that_cannot_be_read_is_replaced_at_the_end_of_a_run() -> None:
    Path("run.json").write_text("[" * 10**5)
    assert finish_record(Path(), "failed", "x", [])
    assert read_json(Path("run.json"))["status"] == "failed"
