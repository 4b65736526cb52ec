"""The last optimizer step of an epoch, when gradients accumulate over more batches than are left for it."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class PartialAccumulation(Callback):
    """Makes the gradient of such a step the mean over its batches, for a module that does not weight its losses.

    Lightning divides every loss by ``accumulate_grad_batches``: with one of four batches left, the step would be a
    quarter of what it should be. `backlit.models.Classifier` weights its losses itself, by their samples.
    """

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Scale the gradients, which are not clipped yet."""
        batches = (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches
        if batches:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(trainer.accumulate_grad_batches / batches)
