"""``best.ckpt``, ``metrics.json`` and reports name the same epoch, also beside a user's ModelCheckpoint."""

import json
import signal
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from backlit.runs.checkpoint import read_checkpoint
from backlit.runs.files import new_directory
from backlit.runs.run import Run, best_row
from backlit.training.best_checkpoint import BestCheckpoint
from backlit.training.train import train
from tests.conftest import CallCommand, Compose
from tests.helpers.callbacks import signaller
from tests.helpers.runs import assert_same_run, csv_curve, read_record, saved_metrics

# Nine of ten labels are of class 0, which is always predicted at first: the accuracy stays while the loss falls.
MAJORITY = ["experiment=points", "trainer=cpu", "callbacks=none", "logger=csv", "data.offset=-1.2"]
MAJORITY += ["data.passes_per_epoch=5", "trainer.max_epochs=6"]
TOP = "+callbacks.top={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/acc, mode: max}"
LOSSES = "+callbacks.low={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/loss, save_top_k: 2}"


def assert_best(directory: Path, metric: str, epoch: int) -> None:
    """Assert that everything that a run has left names an epoch, counted from 0, as its best."""
    best = read_checkpoint(directory / "checkpoints" / "best.ckpt")
    values = [value for _, value in csv_curve(directory, metric)]
    run = Run.read(directory)
    assert run is not None
    assert best["epoch"] == epoch
    assert run.best == (values[epoch], epoch + 1)
    assert run.optimized == saved_metrics(directory)[f"{metric}_best"] == values[epoch]
    weights = torch.load(directory / "weights.pth", weights_only=True)
    assert all(torch.equal(best["state_dict"][f"net.{name}"], value) for name, value in weights.items())


def test_of_equal_accuracies_the_one_with_the_lowest_loss_is_kept(composed: Compose, tmp_path: Path) -> None:
    run = new_directory(tmp_path / "run")
    train(composed(*MAJORITY, "optimized_metric=val/acc"), run)
    accuracies, losses = ([value for _, value in csv_curve(run, f"val/{name}")] for name in ("acc", "loss"))
    assert len(set(accuracies)) == 1
    assert losses == sorted(losses, reverse=True)
    assert_best(run, "val/acc", 5)
    assert read_record(run)["optimized_mode"] == "max"


@pytest.mark.parametrize("metric", ["val/loss", "val/ece"])
def test_where_the_smallest_is_best_it_is_kept(metric: str, composed: Compose, tmp_path: Path) -> None:
    run = new_directory(tmp_path / "run")
    train(composed(*MAJORITY, f"optimized_metric={metric}", "optimizer.lr=3", "data.batch_size=10"), run)
    values = [value for _, value in csv_curve(run, metric)]
    assert values.index(min(values)) not in (0, values.index(max(values)))
    assert_best(run, metric, values.index(min(values)))
    assert read_record(run)["optimized_mode"] == "min"


@pytest.mark.parametrize("own", [[], [TOP, LOSSES]], ids=["alone", "beside_own"])
@pytest.mark.parametrize("interval", ["null", "3"])
def test_the_best_checkpoint_is_found_again_when_a_run_resumes(
    own: list[str], interval: str, composed: Compose, tmp_path: Path
) -> None:
    whole, cut = new_directory(tmp_path / "whole"), new_directory(tmp_path / "cut")
    overrides = [*MAJORITY, "optimized_metric=val/acc", f"trainer.val_check_interval={interval}", *own]
    train(composed(*overrides), whole)
    with pytest.raises(SystemExit):
        train(composed(*overrides, signaller("on_train_batch_end", signal.SIGTERM, 22)), cut)
    train(composed(*overrides, f"ckpt_path={cut}/checkpoints/last.ckpt"), cut)
    assert_same_run(cut, whole)
    best = [read_checkpoint(run / "checkpoints" / "best.ckpt") for run in (whole, cut)]
    assert best[0]["global_step"] == best[1]["global_step"] == (28 if interval == "3" else 30)
    names = [{path.relative_to(run).as_posix() for path in run.glob("checkpoints/*/*")} for run in (whole, cut)]
    assert names[0] == names[1]
    assert len(names[0]) == (3 if own else 0)


def test_an_own_model_checkpoint_changes_no_number_of_the_run(call_command: CallCommand) -> None:
    """The values on the console, in ``metrics.json`` and for sweepers are of the optimized metric."""
    runs = {"alone": [], "beside": [TOP, LOSSES]}
    for name, own in runs.items():
        overrides = [*MAJORITY, "optimizer.lr=3", "data.batch_size=10", *own, f"hydra.run.dir={name}"]
        done = call_command("backlit-train", *overrides)
        assert done.returncode == 0, done.stderr
        assert ["loss_best", f"{saved_metrics(Path(name))['val/loss_best']:.4f}"] in map(
            str.split, done.stdout.splitlines()
        )
    assert saved_metrics(Path("alone")) == saved_metrics(Path("beside"))
    (top,) = Path("beside", "checkpoints", "top").iterdir()
    accuracies = [value for _, value in csv_curve(Path("beside"), "val/acc")]
    assert read_checkpoint(top)["epoch"] == accuracies.index(max(accuracies))
    low = {read_checkpoint(path)["epoch"] for path in Path("beside", "checkpoints", "low").iterdir()}
    losses = [value for _, value in csv_curve(Path("beside"), "val/loss")]
    assert low == {losses.index(value) for value in sorted(losses)[:2]}
    # Its files can be evaluated, too.
    judged = call_command("backlit-evaluate", f"run='{top}'", "trainer=cpu", "resamples=0")
    assert judged.returncode == 0, judged.stderr
    assert json.loads(Path("beside", "metrics.json").read_text())["checkpoint"]["test/acc"] == "checkpoints/best.ckpt"


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_callback_keeps_what_best_row_calls_best(mode: Any) -> None:
    values = [(float("nan"), 1.0), (0.5, 0.4), (0.5, float("nan")), (0.4, 0.3), (0.5, 0.3), (0.5, 0.3), (0.4, 0.2)]
    rows = [{"step": i, "val/acc": value, "val/loss": loss} for i, (value, loss) in enumerate(values)]
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    callback, kept = BestCheckpoint(Path(), "val/acc", mode), None
    for i, row in enumerate(rows):
        metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in row.items()}
        trainer.callback_metrics.clear()
        trainer.callback_metrics.update(metrics)
        if callback.check_monitor_top_k(trainer, metrics["val/acc"]):
            kept = i
        expected = best_row(rows[: i + 1], "val/acc", mode)
        assert kept == (None if expected is None else expected["step"])
        restored = BestCheckpoint(Path(), "val/acc", mode)
        restored.load_state_dict(callback.state_dict())
        callback = restored
    assert kept == {"min": 6, "max": 4}[mode]
