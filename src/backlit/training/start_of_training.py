"""What happens before the first batch of training."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from backlit.data.seeds import mix_seeds
from backlit.models.schedulers import Schedule
from backlit.training.callback_states import keep_own_files

if TYPE_CHECKING:
    from backlit.runs.record import RunRecord


class StartOfTraining(Callback):
    """Records how many steps are planned, for the schedule too, and lets each process drop and augment in its own way.

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
        steps, epochs = planned_steps(trainer), trainer.max_epochs
        for config in trainer.lr_scheduler_configs:
            # A run that resumes with other batches ends at another step than one that has them from its beginning,
            # which is what the schedule was made for.
            is_whole = getattr(config.scheduler, "total_steps", None) == trainer.estimated_stepping_batches
            if isinstance(config.scheduler, Schedule) and is_whole and steps is not None:
                config.scheduler.set_total_steps(steps)
        if self.record is not None:
            self.record.add(
                first_step=trainer.global_step,
                planned_steps=steps,
                planned_epochs=epochs if epochs and epochs > 0 else None,
            )
        if trainer.global_rank:
            torch.manual_seed(mix_seeds(torch.initial_seed(), trainer.global_rank))


def planned_steps(trainer: Trainer) -> int | None:
    """Return the optimizer steps at the end of a training that starts or resumes; None if no number of them ends it."""
    loop, accumulated = trainer.fit_loop, trainer.accumulate_grad_batches
    steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    if trainer.max_epochs not in (None, -1):
        batches = trainer.num_training_batches
        progress: Any = loop.epoch_loop.batch_progress.current
        begun = progress.processed if loop.restarted_mid_epoch else 0
        of_epoch = math.inf if math.isinf(batches) else math.ceil(batches / accumulated)
        left = of_epoch - begun // accumulated + (trainer.max_epochs - trainer.current_epoch - 1) * of_epoch
        steps = min(steps, trainer.global_step + left)
    return int(steps) if math.isfinite(steps) else None
