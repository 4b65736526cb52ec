"""What only TensorBoard shows: histograms of weights and gradients, and the graph of the network."""

import copy
import warnings
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch.optim import Optimizer

from backlit.arguments import PositiveInt, check_arguments
from backlit.callbacks.attempt import Attempts


def tensorboard_writers(trainer: Trainer) -> list[Any]:
    """Return the trainer's TensorBoard writers in the first process, an empty list in the others.

    Also empty if each process has only a part of the network.
    """
    if not trainer.is_global_zero or isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


class Histograms(Callback):
    """Histograms of every parameter and of its gradient.

    Args:
        every_n_steps: Number of optimizer steps between records; the first step is also recorded.

    Raises:
        ValueError: If `every_n_steps` is less than 1.
    """

    def __init__(self, every_n_steps: PositiveInt = 1000) -> None:
        check_arguments(Histograms.__init__, locals())
        self.every_n_steps = every_n_steps
        self._attempts = Attempts()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Record while the gradients exist."""
        if trainer.global_step % self.every_n_steps:
            return
        for writer in tensorboard_writers(trainer):
            for name, parameter in pl_module.named_parameters():
                tag = name.removeprefix("net.")
                with self._attempts.attempt("a histogram"):
                    writer.add_histogram(f"weights/{tag}", parameter.detach().float(), trainer.global_step)
                    if parameter.grad is not None:
                        writer.add_histogram(f"gradients/{tag}", parameter.grad.float(), trainer.global_step)


class ModelGraph(Callback):
    """The graph of the network, traced once with a batch of one."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Trace and record."""
        shape = getattr(getattr(trainer, "datamodule", None), "input_shape", None)
        net = getattr(pl_module, "net", None)
        if shape is None or net is None:
            return
        for writer in tensorboard_writers(trainer):
            with Attempts().attempt("the graph of the network"), warnings.catch_warnings():
                # TensorBoard's writer still traces with torch.jit, which PyTorch has deprecated.
                warnings.simplefilter("ignore")
                example = torch.zeros(1, *shape, device=pl_module.device, dtype=next(net.parameters()).dtype)
                # A compiled network cannot be traced; a copy, with the same parameters, is not compiled.
                writer.add_graph(copy.copy(net), example)
