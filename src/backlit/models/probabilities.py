"""From stored inputs to probabilities."""

import torch
from torch import Tensor

from backlit.data.memory import InMemoryDataModule
from backlit.models.classifier import Classifier
from backlit.models.precision import at_least_float32


def probabilities(model: Classifier, datamodule: InMemoryDataModule, inputs: Tensor) -> Tensor:
    """Return a model's probabilities for stored inputs; `torch.export` can trace it.

    Args:
        model: The network; the dtype of its weights is used for the computation.
        datamodule: Prepares the inputs.
        inputs: Shape ``(b, ...)``, as the data set stores them, on the model's device.

    Returns:
        The result of `model.probabilities`, on the model's device: usually shape ``(b, num_classes)``, or ``(b,)`` of
        class 1 of two; float32 or float64.
    """
    dtype = next(model.parameters()).dtype  # `model.dtype` remains float32 after `model.bfloat16()`
    return model.probabilities(at_least_float32(model(datamodule.prepare_inputs(inputs, dtype))))


@torch.no_grad()
def predict_probabilities(
    model: Classifier, datamodule: InMemoryDataModule, inputs: Tensor, *, batch_size: int
) -> Tensor:
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
