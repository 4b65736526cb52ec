"""How a command ends, and how often it builds and reads what a run is made of."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backlit.runs import checkpoint
from tests.conftest import CallCommand
from tests.helpers.commands import QUICK
from tests.helpers.runs import change_record, only_run, read_record

DIVERGES = ["optimizer.lr=1e38", "model.activation=gelu", "trainer.log_every_n_steps=5"]


def test_a_failed_run_keeps_its_traceback_in_its_log(call_command: CallCommand) -> None:
    ended = call_command("backlit-train", *QUICK, *DIVERGES)
    assert ended.returncode == 1
    assert "failed: train/loss is" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert ended.stderr == ""
    assert read_record(only_run())["status"] == "failed"
    assert "Traceback (most recent call last)" in (only_run() / "train.log").read_text()


@pytest.mark.parametrize(("more", "code"), [([], 0), (DIVERGES, 1), (["optimizer.lr=-1"], 2)])
def test_a_command_leaves_the_process_as_it_found_it(more: list[str], code: int, call_command: CallCommand) -> None:
    before = dict(os.environ), list(sys.argv), logging.raiseExceptions
    assert call_command("backlit-train", *QUICK, *more).returncode == code
    assert (dict(os.environ), list(sys.argv), logging.raiseExceptions) == before


def lose_ctrl_c(*arguments: object) -> None:
    """Fail as numpy does when it is interrupted while it is imported."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise ImportError("cannot load module more than once per process")


def ignore_ctrl_c(*arguments: object) -> None:
    """Go on in spite of Ctrl-C, as who imports numpy if it can be imported."""
    with pytest.raises(ImportError):
        lose_ctrl_c()


@pytest.mark.parametrize(
    ("step", "act"),
    [
        ("backlit.cli.app.read_arguments", lose_ctrl_c),
        ("backlit.cli.reserve._build", lose_ctrl_c),
        ("backlit.training.build.prepare_data", ignore_ctrl_c),
        ("backlit.training.train.run", lose_ctrl_c),
    ],
)
def test_ctrl_c_ends_a_command_even_if_a_library_loses_it(
    step: str, act: Callable[..., None], call_command: CallCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(step, act)
    ended = call_command("backlit-train", *QUICK)
    assert (ended.returncode, ended.stderr) == (130, "")
    assert not list(tmp_path.glob("outputs/**/run.json"))


def test_a_sweep_that_cannot_be_summarized_after_ctrl_c_names_the_command(
    call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlit.sweeps.run_jobs.prepare_attempt", lose_ctrl_c)
    monkeypatch.setattr("backlit.sweeps.summary.summarize_sweep", lose_ctrl_c)
    ended = call_command("backlit-train", "-m", *QUICK, "hydra.sweep.dir=sweep")
    assert (ended.returncode, ended.stderr) == (
        130,
        "interrupted; to summarize the sweep: backlit-report sweep\n",
    )


COUNTED = """
from pathlib import Path

import lightning
from backlit.data import PointsDataModule
from backlit.loggers import TensorBoardLogger
from backlit.models import BinaryClassifier


class Counted:
    def __init__(self, *arguments, **more):
        with Path("built.txt").open("a") as file:
            print(type(self).__name__, file=file)
        super().__init__(*arguments, **more)


class Model(Counted, BinaryClassifier): pass
class Data(Counted, PointsDataModule): pass
class Logger(Counted, TensorBoardLogger): pass
class Callback(Counted, lightning.Callback): pass
"""


def test_a_command_builds_each_part_once(
    call_command: CallCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counted_parts.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "counted_parts", raising=False)
    own = ["model._target_=counted_parts.Model", "data._target_=counted_parts.Data"]
    own += ["logger.tensorboard._target_=counted_parts.Logger", "+callbacks.own._target_=counted_parts.Callback"]
    ended = call_command("backlit-train", *QUICK, *own)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sorted(Path("built.txt").read_text().split()) == ["Callback", "Data", "Logger", "Model"]


def test_a_resume_reads_its_checkpoint_once(
    points_run: Path, call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, original = [], checkpoint.read_checkpoint

    def count(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
        read.append(path.name)
        return original(path, map_location)

    monkeypatch.setattr(checkpoint, "read_checkpoint", count)
    change_record(points_run, status="failed")
    ended = call_command("backlit-train", "resume=latest", "test=false", "trainer.max_epochs=3")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert read == ["last.ckpt"]
