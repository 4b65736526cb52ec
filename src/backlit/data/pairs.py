"""Inputs and targets as two tensors."""

import torch
from torch import Tensor
from torch.utils.data import Dataset


class TensorPairs(Dataset[tuple[Tensor, Tensor]]):
    """Inputs and targets in memory as two tensors.

    Args:
        inputs: Shape ``(n, ...)``, any dtype.
        targets: Shape ``(n,)``, int64 class indices.
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        assert len(inputs) == len(targets)
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one sample: input of shape ``(...)``, target of shape ``()``."""
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch at indices of shape ``(b,)``: inputs ``(b, ...)``, targets ``(b,)``.

        `torch.utils.data` calls this instead of `__getitem__` where it exists. ``index_select`` is several times
        faster than ``inputs[index]`` for uint8 on a CPU.
        """
        return self.inputs.index_select(0, indices), self.targets.index_select(0, indices)

    def to(self, device: torch.device) -> "TensorPairs":
        """Return the same samples on a device."""
        return TensorPairs(self.inputs.to(device), self.targets.to(device))
