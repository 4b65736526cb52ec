"""What happens when training starts, before its first batch."""

import math
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from backlit.data import InMemoryDataModule
from backlit.data.seeds import mix_seeds
from backlit.errors import ConfigError
from backlit.models import Classifier

if TYPE_CHECKING:
    from backlit.runs.record import RunRecord


class StartOfTraining(Callback):
    """Records how many steps are planned, and lets each process drop and augment in its own way.

    All processes build their networks from the same seed; from here on, what is random differs between them.
    """

    record: "RunRecord | None" = None  # of the first process, which sets it when the run begins

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the labels of data in memory, which exist from here on.

        Raises:
            ConfigError: If they are no class indices: a loss would fail within, or count wrong classes.
        """
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, InMemoryDataModule) and isinstance(pl_module, Classifier):
            problems = [problem for name in ("train", "val", "test") if (problem := _label_problem(data, name))]
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
