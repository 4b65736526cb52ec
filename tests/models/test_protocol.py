from typing import Any

import lightning
import pytest
import torch
from torch import Tensor

from backlit.data import InMemoryDataModule, MNISTDataModule
from backlit.models import MulticlassClassifier
from backlit.models.protocol import class_labels, class_names, missing_definition, prepare_inputs, takes_pixels


class Bare(lightning.LightningModule):
    pass


class Logits(lightning.LightningModule):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class Whole(Logits):
    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)


class Plain(lightning.LightningDataModule):
    class_names = ("cat", "dog")


class Halving(Plain):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] / 2, batch[1]


class Prepared(Halving):
    def prepare_inputs(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        return inputs.to(dtype) / 2


class HalvingInMemory(InMemoryDataModule):
    on_after_batch_transfer = Halving.on_after_batch_transfer


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (Bare(), Plain(), "Bare needs forward(self, inputs)"),
        (Logits(), Plain(), "Logits needs probabilities(self, logits)"),
        (Whole(), None, "Whole needs a LightningDataModule"),
        (Whole(), Halving(), "Halving needs prepare_inputs(self, inputs, dtype)"),
        (Whole(), HalvingInMemory(batch_size=1), "HalvingInMemory needs prepare_inputs(self, inputs, dtype)"),
        (Whole(), Plain(), None),
        (Whole(), Prepared(), None),
        (MulticlassClassifier(), MNISTDataModule(), None),
    ],
)
def test_what_is_missing_for_probabilities_is_named(model: Any, data: Any, message: str | None) -> None:
    missing = missing_definition(model, data)
    assert missing == message if message is None else str(missing).startswith(message)


def test_inputs_are_prepared_by_the_data_or_left_as_they_are() -> None:
    pixels = torch.tensor([[4]], dtype=torch.uint8)
    assert prepare_inputs(Prepared(), pixels, torch.float32).tolist() == [[2.0]]
    assert prepare_inputs(Plain(), pixels, torch.float32).dtype == torch.uint8
    assert prepare_inputs(Plain(), pixels.double(), torch.float32).dtype == torch.float32


def test_pixels_of_files_need_data_that_store_or_prepare_them() -> None:
    assert takes_pixels(Plain(), torch.uint8)
    assert takes_pixels(Prepared(), torch.float32)
    assert not takes_pixels(Plain(), torch.float32)
    assert not takes_pixels(InMemoryDataModule(batch_size=1), torch.float32)


def test_classes_have_names_or_else_numbers() -> None:
    assert class_labels(Plain(), 2) == ["cat", "dog"]
    assert class_labels(Plain(), 3) == class_labels(object(), 3) == ["0", "1", "2"]
    assert class_names(MNISTDataModule())[7] == "7"
    assert class_names(MNISTDataModule(dataset="FashionMNIST"))[7] == "Sneaker"
