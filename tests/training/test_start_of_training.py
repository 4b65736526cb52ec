"""What is checked when training starts; the steps that are planned then, and the schedule that belongs to them."""

import contextlib
import math
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from backlit.data import InMemoryDataModule, TensorPairs
from backlit.errors import ConfigError
from backlit.models import MulticlassClassifier
from backlit.runs.files import new_directory
from backlit.training.start_of_training import StartOfTraining
from backlit.training.train import train
from tests.conftest import Compose
from tests.helpers.callbacks import signaller
from tests.helpers.runs import csv_curve, read_record

# Ten steps an epoch, each of which is recorded.
SHORT = ["experiment=points", "trainer=cpu", "callbacks=none", "logger=csv", "test=false", "data.passes_per_epoch=10"]
SHORT += ["trainer.log_every_n_steps=1", "trainer.max_epochs=2"]


@pytest.mark.parametrize(
    ("more", "total"),
    [
        (["trainer.max_epochs=4"], 40),
        (["trainer.max_epochs=4", "trainer.limit_train_batches=5"], 30),
        (["trainer.max_epochs=4", "trainer.accumulate_grad_batches=4"], 26),
        (["trainer.max_epochs=9", "trainer.max_steps=33"], 33),
    ],
)
def test_a_completed_run_resumes_with_the_schedule_of_its_new_length(
    more: list[str], total: int, composed: Compose, tmp_path: Path
) -> None:
    run = new_directory(tmp_path / "run")
    train(composed(*SHORT, "scheduler=cosine"), run)
    assert read_record(run)["planned_steps"] == 20
    train(composed(*SHORT, "scheduler=cosine", *more, f"ckpt_path={run}/checkpoints/last.ckpt"), run)
    record = read_record(run)
    assert (record["first_step"], record["planned_steps"]) == (20, total)
    rates = dict(csv_curve(run, "lr"))  # after each step, so of the next one
    assert max(rates) == total
    assert [rates[step] for step in range(1, 21)] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * step / 20)) for step in range(1, 21)]
    )
    assert [rates[step] for step in range(21, total + 1)] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * step / total)) for step in range(21, total + 1)]
    )


def test_a_schedule_ends_with_a_training_that_accumulates_more_and_more(composed: Compose, tmp_path: Path) -> None:
    target = "lightning.pytorch.callbacks.GradientAccumulationScheduler"
    more = f"+callbacks.accumulation={{_target_: {target}, scheduling: {{1: 4}}}}"
    train(composed(*SHORT, "scheduler=cosine", more), tmp_path)
    assert read_record(tmp_path)["planned_steps"] == 13  # 10, and 4 + 4 + 2 batches
    step, rate = csv_curve(tmp_path, "lr")[-1]
    assert (step, rate) == (13, 0)


@pytest.mark.parametrize("scheduler", ["one_cycle", "step"])
def test_other_schedules_can_be_made_longer_too(scheduler: str, composed: Compose, tmp_path: Path) -> None:
    run, whole = new_directory(tmp_path / "run"), new_directory(tmp_path / "whole")
    train(composed(*SHORT, f"scheduler={scheduler}"), run)
    longer = [*SHORT, f"scheduler={scheduler}", "trainer.max_epochs=4"]
    train(composed(*longer, f"ckpt_path={run}/checkpoints/last.ckpt"), run)
    train(composed(*longer), whole)
    assert csv_curve(run, "lr")[20:] == csv_curve(whole, "lr")[20:]
    assert read_record(run)["status"] == "completed"


@pytest.mark.parametrize(("more", "total"), [([], 40), (["trainer.max_epochs=3"], 30)])
def test_a_run_that_resumes_within_an_epoch_plans_what_is_left(
    more: list[str], total: int, composed: Compose, tmp_path: Path
) -> None:
    run = new_directory(tmp_path / "run")
    overrides = [*SHORT, "scheduler=cosine", "trainer.max_epochs=4", "trainer.accumulate_grad_batches=1"]
    with pytest.raises(SystemExit):
        train(composed(*overrides, signaller("on_train_batch_end", signal.SIGTERM, 14)), run)
    train(composed(*overrides, *more, f"ckpt_path={run}/checkpoints/last.ckpt"), run)
    record = read_record(run)
    assert (record["first_step"], record["planned_steps"]) == (14, total)
    step, rate = csv_curve(run, "lr")[-1]
    assert (step, rate) == (total, 0)


class Data(InMemoryDataModule):
    input_shape, num_classes = (2,), 3

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__(batch_size=2)
        self.train_set = self.test_set = TensorPairs(torch.zeros(len(labels), 2), labels)


def start(labels: torch.Tensor, *, in_features: int = 2, num_classes: int = 3, **flags: Any) -> None:
    model = MulticlassClassifier(in_features=in_features, num_classes=num_classes, dropout=0.5)
    assert model.training
    before = torch.random.get_rng_state()
    trainer: Any = SimpleNamespace(datamodule=Data(labels))
    StartOfTraining(Path("checkpoints"), {"trainer": flags}).setup(trainer, model, "fit")
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (torch.tensor([1, 2, 3]), "1 to 3"),
        (torch.tensor([-1, 0]), "-1 to 0"),
        (torch.tensor([0.0, 1.0]), r"float32 of shape \(2,\)"),
        (torch.tensor([0, 1], dtype=torch.int32), r"int32 of shape \(2,\)"),
        (torch.tensor([[0], [1]]), r"int64 of shape \(2, 1\)"),
        (torch.zeros(0, dtype=torch.int64), "none"),
    ],
)
def test_labels_that_are_no_class_indices_are_named_before_a_step(labels: torch.Tensor, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        start(labels)
    rule = r"data must have int64 labels from 0 to 2 of shape \(n,\) in train_set, got "
    assert caught.match(rule + got)
    assert len(caught.value.problems) == 2  # the test set's, too


def test_class_indices_are_accepted() -> None:
    start(torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("network", "line"),
    [
        ({"num_classes": 4}, "model must distinguish 3 classes for these data, got outputs for 4"),
        ({"num_classes": 2}, "model must distinguish 3 classes for these data, got outputs for 2"),
        ({"in_features": 5}, r"model must take inputs of shape \(2,\) of these data: .* shapes cannot be multiplied"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_named_before_a_step(network: dict[str, int], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        start(torch.tensor([0, 1, 2]), **network)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"limit_train_batches": 0.1}, r"trainer.limit_train_batches must come to a batch of 2 \(train\), got 0.1"),
        ({"val_check_interval": 5}, None),  # there is no validation
        ({"limit_test_batches": 0.1}, r"trainer.limit_test_batches must come to a batch of 1 \(test\), got 0.1"),
    ],
)
def test_flags_are_held_against_the_real_number_of_batches(flags: dict[str, Any], line: str | None) -> None:
    with contextlib.nullcontext() if line is None else pytest.raises(ConfigError, match=line):
        start(torch.tensor([0, 1, 2]), **flags)
