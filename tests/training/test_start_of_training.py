"""What is checked when training starts: labels that only exist once a data module is set up."""

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from backlit.data import InMemoryDataModule, TensorPairs
from backlit.errors import ConfigError
from backlit.models import MulticlassClassifier
from backlit.training.start_of_training import StartOfTraining


class Data(InMemoryDataModule):
    input_shape, num_classes = (2,), 3

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__(batch_size=2)
        self.train_set = self.test_set = TensorPairs(torch.zeros(len(labels), 2), labels)


def start(labels: torch.Tensor, **flags: object) -> None:
    model = MulticlassClassifier(in_features=2, num_classes=3)
    trainer: Any = SimpleNamespace(datamodule=Data(labels))
    StartOfTraining({"trainer": flags}).setup(trainer, model, "fit")


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
    ("flags", "line"),
    [
        ({"limit_train_batches": 0.1}, r"trainer.limit_train_batches must come to a batch of 2 \(train\), got 0.1"),
        ({"val_check_interval": 5}, None),  # there is no validation
        ({"limit_test_batches": 0.1}, r"trainer.limit_test_batches must come to a batch of 1 \(test\), got 0.1"),
    ],
)
def test_flags_are_held_against_the_real_number_of_batches(flags: dict[str, object], line: str | None) -> None:
    with contextlib.nullcontext() if line is None else pytest.raises(ConfigError, match=line):
        start(torch.tensor([0, 1, 2]), **flags)
