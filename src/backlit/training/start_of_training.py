"""What happens before the first batch of training."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from backlit.data.seeds import mix_seeds
from backlit.training.callback_states import keep_own_files

if TYPE_CHECKING:
    from backlit.runs.record import RunRecord


class StartOfTraining(Callback):
    """Records how many steps are planned, and lets each process drop and augment in its own way.

    All processes build their networks from the same seed; from here on, what is random differs between them. It also
    restricts what a checkpoint may restore, in every run: one without checkpoints of its own, too.

    Args:
        checkpoints: The directory of the run's own checkpoints.
    """

    record: "RunRecord | None" = None  # of the first process, which sets it when the run begins

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints.resolve()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take no path from the checkpoint but those of the run's own checkpoints."""
        path = trainer.ckpt_path
        is_own = path is not None and Path(path).resolve().parent == self.checkpoints
        keep_own_files(trainer, checkpoint, is_own=is_own)

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
