"""What happens when training starts, before its first batch."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from backlit.config.trainer_flags import check_batches
from backlit.data import InMemoryDataModule
from backlit.data.seeds import mix_seeds
from backlit.errors import ConfigError
from backlit.models import Classifier

if TYPE_CHECKING:
    from backlit.runs.record import RunRecord


_SETS = ("train", "val", "test")


class StartOfTraining(Callback):
    """Records how many steps are planned, and lets each process drop and augment in its own way.

    All processes build their networks from the same seed; from here on, what is random differs between them.

    Args:
        config: The whole config as plain data.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.record: RunRecord | None = None  # of the first process, which sets it when the run begins

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check data in memory, which exist from here on, before anything is trained.

        Raises:
            ConfigError: If labels are no class indices, so that a loss would fail within or count wrong classes; if
                Trainer flags leave no batch.
        """
        data = getattr(trainer, "datamodule", None)
        if stage != "fit" or not isinstance(data, InMemoryDataModule):
            return
        sets = [getattr(data, f"{name}_set", None) for name in _SETS]
        problems = []
        if isinstance(pl_module, Classifier):
            problems += [line for name in _SETS if (line := _label_problem(data, name))]
        train, val, test = (0 if samples is None else len(samples) for samples in sets)
        if train:
            problems += check_batches(self.config, data, (train, val, test))
        if problems:
            raise ConfigError(problems)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the plan, from which others compute how far the run is; seed the other processes."""
        if self.record is not None:
            steps, epochs = trainer.estimated_stepping_batches, trainer.max_epochs
            self.record.add(
                first_step=trainer.global_step,
                planned_steps=int(steps) if math.isfinite(steps) else None,
                planned_epochs=epochs if epochs and epochs > 0 else None,
            )
        if trainer.global_rank:
            torch.manual_seed(mix_seeds(torch.initial_seed(), trainer.global_rank))


def _label_problem(data: InMemoryDataModule, name: str) -> str | None:
    """Return a line if the labels of a set are not int64 numbers from 0, of shape ``(n,)``; None if they are."""
    samples, classes = getattr(data, f"{name}_set", None), getattr(data, "num_classes", None)
    if samples is None or classes is None:
        return None
    labels = samples.targets
    rule = f"data must have int64 labels from 0 to {classes - 1} of shape (n,) in {name}_set"
    if labels.dtype != torch.int64 or labels.ndim != 1:
        return f"{rule}, got {str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}"
    if not len(labels):
        return f"{rule}, got none"
    lowest, highest = int(labels.min()), int(labels.max())
    return None if lowest >= 0 and highest < classes else f"{rule}, got {lowest} to {highest}"
