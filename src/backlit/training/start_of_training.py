"""What happens when training starts, before its first batch."""

import math
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from backlit.data.seeds import mix_seeds
from backlit.models.schedulers import Schedule

if TYPE_CHECKING:
    from backlit.runs.record import RunRecord


class StartOfTraining(Callback):
    """Records how many steps are planned, for the schedule too, and lets each process drop and augment in its own way.

    All processes build their networks from the same seed; from here on, what is random differs between them.
    """

    record: "RunRecord | None" = None  # of the first process, which sets it when the run begins

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
    loop, batches, accumulated = trainer.fit_loop, trainer.num_training_batches, trainer.accumulate_grad_batches
    steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    if trainer.max_epochs not in (None, -1) and math.isfinite(batches):
        epochs = range(trainer.current_epoch, trainer.max_epochs)
        left = len(epochs) * math.ceil(batches / accumulated)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientAccumulationScheduler):
                left = sum(math.ceil(batches / callback.get_accumulate_grad_batches(epoch)) for epoch in epochs)
                accumulated = callback.get_accumulate_grad_batches(trainer.current_epoch)
        progress: Any = loop.epoch_loop.batch_progress.current
        begun = progress.processed // accumulated if loop.restarted_mid_epoch else 0
        steps = min(steps, trainer.global_step + left - begun)
    return int(steps) if math.isfinite(steps) else None
