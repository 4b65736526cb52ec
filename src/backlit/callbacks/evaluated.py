"""The samples of which a Trainer computes its metrics, with the probabilities of its module."""

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from backlit.data import InMemoryDataModule, TensorPairs
from backlit.models.probabilities import predict_probabilities

Part = Literal["val", "test"]

# More inputs of a DataLoader are not kept for a picture.
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class Evaluated:
    """Samples and their probabilities.

    Args:
        inputs: Shape ``(n, ...)``, as the data set stores them; None if they would take more than 1 GiB.
        targets: Shape ``(n,)``, int64 class indices.
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1 of two.
    """

    inputs: Tensor | None
    targets: Tensor
    probabilities: Tensor


def evaluate_samples(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule, part: Part
) -> Evaluated | None:
    """Return the samples of a set; None if there is no such set.

    Args:
        trainer: Limits the samples; its precision is that of the metrics.
        model: A module of which `missing_definition` misses nothing.
        datamodule: Has the set in memory, or a DataLoader of it.
        part: The set.

    Raises:
        ValueError: If the batches of a DataLoader are not ``(inputs, targets)`` of a classification.
    """
    with trainer.precision_plugin.forward_context():
        if not isinstance(datamodule, InMemoryDataModule):
            return _evaluate_loader(trainer, model, datamodule, part)
        samples = evaluated_samples(trainer, datamodule, part)
        if samples is None:
            return None
        found = predict_probabilities(model, datamodule, samples.inputs, batch_size=datamodule.eval_batch_size)
        return Evaluated(samples.inputs, samples.targets, found)


def evaluated_samples(trainer: Trainer, datamodule: InMemoryDataModule, part: Part) -> TensorPairs | None:
    """Return the samples of which a Trainer computes its metrics: all of a set, or the first that it is limited to.

    Return None if there is no such set. The processes of a run share each batch, so their number does not matter.
    """
    samples: TensorPairs | None = getattr(datamodule, f"{part}_set", None)
    batches = _batches(trainer, part)
    count = batches * datamodule.eval_batch_size
    if samples is None or not batches or count >= len(samples):  # no batches: no validation has taken place yet
        return samples
    return TensorPairs(samples.inputs[: int(count)], samples.targets[: int(count)])


def _batches(trainer: Trainer, part: Part) -> float:
    return sum(trainer.num_test_batches if part == "test" else trainer.num_val_batches)


def _evaluate_loader(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule, part: Part
) -> Evaluated | None:
    """Return the samples of a DataLoader, in the order of its batches."""
    batches, most = _batches(trainer, part), _MOST_BYTES
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with isolate_rng():  # a DataLoader draws a seed for its workers
        loader: Any = datamodule.test_dataloader() if part == "test" else datamodule.val_dataloader()
        if isinstance(loader, list | tuple) and len(loader) == 1:
            (loader,) = loader
        if not loader or not batches:
            return None
        for batch in itertools.islice(loader, None if math.isinf(batches) else int(batches)):
            inputs, targets = _as_pair(batch, part)
            probabilities = predict_probabilities(model, datamodule, inputs, batch_size=max(1, len(inputs)))
            most -= inputs.numel() * inputs.element_size()
            found.append((inputs if most >= 0 else inputs[:0], targets, probabilities))
    kept, targets, probabilities = (torch.cat(parts) for parts in zip(*found, strict=True))
    if probabilities.ndim > 2:
        raise ValueError(f"{type(model).__name__}.probabilities must have shape (b, num_classes) or (b,)")
    return Evaluated(kept if most >= 0 else None, targets, probabilities)


def _as_pair(batch: Any, part: Part) -> tuple[Tensor, Tensor]:
    """Return the inputs and the class indices of a batch.

    Raises:
        ValueError: If it is something else.
    """
    rule = f"batches of {part}_dataloader must be (inputs, targets), tensors with class indices of shape (b,)"
    if not (isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(one, Tensor) for one in batch)):
        raise ValueError(f"{rule}, got {type(batch).__name__}")
    inputs, targets = batch
    if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"{rule}, got targets {str(targets.dtype).removeprefix('torch.')} {tuple(targets.shape)}")
    return inputs, targets.long()
