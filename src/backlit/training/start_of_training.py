"""What happens when training starts, before its first batch."""

import math
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from backlit.data.seeds import mix_seeds

if TYPE_CHECKING:
    from backlit.runs.record import RunRecord


class StartOfTraining(Callback):
    """Records how many steps are planned, and lets each process drop and augment in its own way.

    All processes build their networks from the same seed; from here on, what is random differs between them.
    """

    record: "RunRecord | None" = None  # of the first process, which sets it when the run begins

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
