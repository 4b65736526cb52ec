"""What is computed in float32 at least, whatever the precision of the network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def at_least_float32(logits: Tensor) -> Tensor:
    """Return logits in float32, or in float64; bfloat16 has 128 values between 0.5 and 1, too few for a ranking."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Measures(nn.ModuleDict):
    """Metrics that move with the module but stay in float32 when it is converted, as ``precision=bf16-true`` does.

    In bfloat16 a best value would be rounded when it is restored, and a sum of sample counts ends at 256.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore[no-untyped-call]
