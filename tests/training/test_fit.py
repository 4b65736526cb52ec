"""Which weights a metric belongs to, and what the console and TensorBoard say of a run that has changed."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from backlit.runs.checkpoint import read_checkpoint
from backlit.runs.files import new_directory
from backlit.training.train import train
from tests.conftest import Compose
from tests.helpers.runs import csv_curve, read_record

SHORT = ["experiment=points", "trainer=cpu", "callbacks=none", "test=false", "data.passes_per_epoch=5"]
LINES = "+callbacks.lines._target_=backlit.callbacks.EpochLines"


@pytest.mark.parametrize(("epochs", "kept"), [(2, "checkpoints/last.ckpt"), (3, "checkpoints/best.ckpt"), (5, None)])
def test_a_validation_metric_belongs_to_the_weights_that_it_was_measured_with(
    epochs: int, kept: str | None, composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # Validations at the end of every second epoch; the rate is so large that the fourth epoch is worse than the second.
    rate = "optimizer.lr=0.1" if epochs < 5 else "optimizer.lr=20"
    train(composed(*SHORT, rate, "trainer.check_val_every_n_epoch=2", f"trainer.max_epochs={epochs}"), tmp_path)
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["checkpoint"]["val/loss"] == saved["checkpoint"]["val/acc"] == kept
    assert saved["checkpoint"]["train/loss"] == "checkpoints/last.ckpt"
    assert f"val: {kept or 'not kept'}" in caplog.text
    if kept is not None:
        step = csv_curve(tmp_path, "val/loss")[-1][0]
        assert read_checkpoint(tmp_path / kept)["global_step"] == step


def test_the_line_of_an_epoch_has_no_metric_of_an_earlier_one(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(composed(*SHORT, LINES, "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=5"), tmp_path)
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    shown: list[dict[str, str]] = [dict(re.findall(r"(\S+/\S+) ([\d.]+)", line.partition("  ")[2])) for line in lines]
    assert [list(names) for names in shown] == [["train/loss"], ["train/loss", "val/loss", "val/acc"]] * 2 + [
        ["train/loss"]
    ]
    for name in ("train/loss", "val/loss"):
        values = [f"{value:.4f}" for _, value in csv_curve(tmp_path, name)]
        assert [names[name] for names in shown if name in names] == values


def test_a_resumed_run_shows_the_hyperparameters_that_it_has_now(composed: Compose, tmp_path: Path) -> None:
    def shown(directory: Path) -> Any:
        content = EventAccumulator(str(directory)).Reload().SummaryMetadata("_hparams_/session_start_info")
        data = plugin_data_pb2.HParamsPluginData.FromString(content.plugin_data.content)
        return data.session_start_info.hparams["trainer/max_epochs"].number_value

    run = new_directory(tmp_path / "run")
    train(composed(*SHORT, "trainer.max_epochs=2"), run)
    assert shown(run / "tensorboard") == 2
    more = ["trainer.max_epochs=3", "trainer.precision=bf16-mixed"]
    train(composed(*SHORT, *more, f"ckpt_path={run}/checkpoints/last.ckpt"), run)
    assert shown(run / "tensorboard") == 3
    record = read_record(run)
    assert (record["precision"], record["attempts"][0]["precision"]) == ("bf16-mixed", "32-true")
