"""From stored inputs to probabilities."""

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from backlit.models.precision import at_least_float32
from backlit.models.protocol import prepare_inputs


def probabilities(model: LightningModule, datamodule: object, inputs: Tensor) -> Tensor:
    """Return a model's probabilities for stored inputs; `torch.export` can trace it.

    Args:
        model: A network of which `missing_definition` misses nothing; the dtype of its weights is used for the
            computation.
        datamodule: Prepares the inputs.
        inputs: Shape ``(b, ...)``, as the data set stores them, on the model's device.

    Returns:
        The result of `model.probabilities`, on the model's device: shape ``(b, num_classes)``, or ``(b,)`` of class 1
        of two; float32 or float64.
    """
    dtype = next(model.parameters()).dtype  # `model.dtype` remains float32 after `model.bfloat16()`
    logits = model(prepare_inputs(datamodule, inputs, dtype))
    of_logits: Any = model.probabilities
    found: Tensor = of_logits(at_least_float32(logits))
    return found.squeeze(1) if found.ndim == 2 and found.shape[1] == 1 else found


@torch.no_grad()
def predict_probabilities(model: LightningModule, datamodule: object, inputs: Tensor, *, batch_size: int) -> Tensor:
    """Return the probabilities of stored inputs ``(n, ...)`` on any device, in evaluation mode.

    Args:
        model: The network; its mode is restored.
        datamodule: Prepares the inputs.
        inputs: Shape ``(n, ...)``, as the data set stores them.
        batch_size: Number of inputs per forward pass.

    Returns:
        The result of `probabilities` for all n inputs, on the CPU.
    """
    was_training = model.training
    model.eval()
    try:
        chunks = torch.split(inputs, batch_size)
        return torch.cat([probabilities(model, datamodule, chunk.to(model.device)).cpu() for chunk in chunks])
    finally:
        model.train(was_training)


def class_probabilities(probabilities: Tensor) -> Tensor:
    """Return the probability of each class, shape ``(n, num_classes)``.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1 of two.
    """
    return torch.stack([1 - probabilities, probabilities], 1) if probabilities.ndim == 1 else probabilities
