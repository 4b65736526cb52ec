"""Weights & Biases, offline: what it gets of a run, read back from its files."""

from pathlib import Path

import numpy
import pytest
from PIL import Image

from tests.conftest import RunCommand
from tests.helpers.commands import QUICK
from tests.helpers.runs import csv_curve, only_run, only_sweep, read_record, saved_metrics
from tests.helpers.wandb_files import read_wandb

pytest.importorskip("wandb")
OFFLINE = ["logger=[wandb,csv]", "logger.wandb.offline=true"]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of wandb that another test has started in this process works in another directory."""
    monkeypatch.delenv("WANDB_SERVICE", raising=False)


def test_wandb_gets_a_run_whole_and_a_resumed_one_is_the_same(run_command: RunCommand) -> None:
    pictures = "+callbacks.pictures={_target_: backlit.callbacks.Pictures, directory: plots}"
    done = run_command("backlit-train", *QUICK, *OFFLINE, pictures, "optimizer.lr=0.05")
    assert done.returncode == 0, done.stderr
    run = only_run()
    (directory,) = Path("outputs/wandb").glob("offline-run-*")
    found = read_wandb(directory)
    assert (found.name, found.group, found.exit_code) == (run.name, "", 0)
    assert read_record(run)["loggers"] == {"wandb": found.id}
    assert found.config["optimizer"]["lr"] == 0.05
    assert found.config["model"]["hidden_sizes"] == [4]
    assert found.config["trainer"]["max_epochs"] == 2
    for name in ("train/loss", "val/acc", "test/acc"):
        assert found.curve(name) == csv_curve(run, name), name
    last = {name: value for row in found.rows for name, value in row.items()}
    for name, value in saved_metrics(run).items():
        assert last[name] == pytest.approx(value), name
    for name in ("confusion_matrix", "boundary"):
        kept = directory / "files" / last[f"{name}/filenames"][0]
        with Image.open(kept) as image, Image.open(f"plots/{name}.png") as plot:
            assert numpy.array_equal(numpy.asarray(image), numpy.asarray(plot.convert(image.mode))), name
    more = ["trainer.max_epochs=3", "packages=[lightning]"]
    done = run_command("backlit-train", "resume=latest", pictures, *more)
    assert done.returncode == 0, done.stderr
    (again,) = set(Path("outputs/wandb").glob("offline-run-*")) - {directory}
    resumed = read_wandb(again)
    assert (resumed.id, resumed.exit_code, resumed.config["trainer"]["max_epochs"]) == (found.id, 0, 3)
    assert resumed.curve("val/acc") == csv_curve(run, "val/acc")[2:]
    assert read_record(run)["loggers"] == {"wandb": found.id}


def test_the_jobs_of_a_sweep_are_a_group_and_a_failed_one_has_failed(run_command: RunCommand) -> None:
    done = run_command("backlit-train", "-m", *QUICK, *OFFLINE, "optimizer.lr=0.1,1e30", "data.passes_per_epoch=1")
    assert done.returncode == 1, done.stderr
    runs = [read_wandb(directory) for directory in Path("outputs/wandb").glob("offline-run-*")]
    assert {run.group for run in runs} == {only_sweep().name}
    assert {run.name: run.exit_code for run in runs} == {"0_optimizer.lr_0.1": 0, "1_optimizer.lr_1e+30": 1}
