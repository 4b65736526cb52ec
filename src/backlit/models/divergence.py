"""A loss that is nan or infinite ends the training, with the step and advice."""

from collections.abc import Sequence

import lightning
import torch
from torch import Tensor


def finite_losses(model: lightning.LightningModule, name: str, losses: Sequence[Tensor]) -> Tensor:
    """Return the losses as one tensor ``(n,)``.

    Args:
        model: The module that computed them; its trainer has the step.
        name: The metric, ``train/loss`` for instance.
        losses: One per batch, each of shape ``()``, up to the current batch.

    Raises:
        FloatingPointError: If a loss is nan or infinite; it names the step and what to try.
    """
    stacked = torch.stack(list(losses))
    finite = torch.isfinite(stacked)
    if finite.all():
        return stacked
    first = int(torch.nonzero(~finite)[0])
    step = model.global_step
    if name.startswith("train/"):
        step -= (len(losses) - 1 - first) // model.trainer.accumulate_grad_batches
    value = stacked[first].item()
    raise FloatingPointError(f"{name} is {value} at step {step}, epoch {model.current_epoch}{_advice(model)}")


def _advice(model: lightning.LightningModule) -> str:
    """Return advice; empty if there is no optimizer."""
    if not model.trainer.optimizers:
        return ""
    if model.dtype == torch.float16:
        return "; float16 ends at 65504, and Adam's eps is 0 in it: try trainer.precision=bf16-true or 32-true"
    lr = model.trainer.optimizers[0].param_groups[0]["lr"]
    return f"; try a smaller optimizer.lr (now {lr:g}) or trainer.gradient_clip_val=1"
