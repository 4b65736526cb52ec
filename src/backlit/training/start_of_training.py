"""What happens before the first batch of training."""

import contextlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.utilities.seed import isolate_rng

from backlit.config.trainer_flags import check_batches
from backlit.data import InMemoryDataModule
from backlit.data.seeds import mix_seeds
from backlit.errors import ConfigError
from backlit.models import Classifier
from backlit.models.protocol import stored_dtype, stored_shape
from backlit.models.schedulers import Schedule
from backlit.text import first_line
from backlit.training import lightning_internals
from backlit.training.callback_states import keep_own_files, keep_patience

if TYPE_CHECKING:
    from backlit.runs.record import RunRecord

log = logging.getLogger(__name__)

_SETS = ("train", "val", "test")
_LARGEST_SAMPLE = 10_000_000  # values, as a record may have them


class StartOfTraining(Callback):
    """Records how many steps are planned, for the schedule too, and lets each process drop and augment in its own way.

    All processes build their networks from the same seed; from here on, what is random differs between them. It also
    restricts what a checkpoint may restore, in every run: one without checkpoints of its own, too.

    Args:
        checkpoints: The directory of the run's own checkpoints.
        config: The whole config as plain data.
    """

    def __init__(self, checkpoints: Path, config: Mapping[str, Any]) -> None:
        self.checkpoints = checkpoints.resolve()
        self.config = config
        self.record: RunRecord | None = None  # of the first process, which sets it when the run begins

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take no path from the checkpoint but those of the run's own checkpoints."""
        path = trainer.ckpt_path
        is_own = path is not None and Path(path).resolve().parent == self.checkpoints
        keep_own_files(trainer, checkpoint, is_own=is_own)
        keep_patience(trainer, checkpoint)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check data in memory, which exist from here on, before anything is trained.

        Raises:
            ConfigError: If labels are no class indices, so that a loss would fail within or count wrong classes; if the
                network does not take the inputs, or has outputs for other classes; if Trainer flags leave no batch.
        """
        data = getattr(trainer, "datamodule", None)
        if stage != "fit" or not isinstance(data, InMemoryDataModule):
            return
        sets = [getattr(data, f"{name}_set", None) for name in _SETS]
        problems = []
        if isinstance(pl_module, Classifier):
            problems += [line for name in _SETS if (line := _label_problem(data, name))]
            if not problems and (line := _output_problem(pl_module, data)):
                problems.append(line)
        train, val, test = (0 if samples is None else len(samples) for samples in sets)
        if train:
            problems += check_batches(self.config, data, (train, val, test))
        if problems:
            raise ConfigError(problems)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the plan, from which others compute how far the run is; seed the other processes."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if trainer.is_global_zero and any(isinstance(one, StochasticWeightAveraging) for one in callbacks):
            log.warning(
                "StochasticWeightAveraging: its average exists in memory alone, after the training; validated, saved "
                "and tested are the weights that it averages. To have the average: callbacks=[default,swa]"
            )
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
                inputs=_describe_inputs(trainer),
            )
        if trainer.global_rank:
            torch.manual_seed(mix_seeds(torch.initial_seed(), trainer.global_rank))


def _describe_inputs(trainer: Trainer) -> dict[str, Any] | None:
    """Return shape and dtype of a stored sample, for predictions and programs; None if the data declare them.

    A DataLoader's first sample is read for that, with all random generators as they were.
    """
    data: Any = getattr(trainer, "datamodule", None)
    if stored_shape(data) and stored_dtype(data):
        return None
    inputs: Any = None
    if isinstance(data, InMemoryDataModule):
        inputs = data.train_set.inputs
    else:
        with contextlib.suppress(Exception), isolate_rng():  # a user's data set may raise anything
            (loader,) = lightning_internals.train_loaders(trainer)
            inputs = loader.collate_fn([loader.dataset[0]])[0]
    if not isinstance(inputs, torch.Tensor) or inputs.ndim < 2 or not inputs[:1].numel() <= _LARGEST_SAMPLE:
        return None
    return {"shape": list(inputs.shape[1:]), "dtype": str(inputs.dtype).removeprefix("torch.")}


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


def _output_problem(model: Classifier, data: InMemoryDataModule) -> str | None:
    """Return a line if the network does not take two samples of the data, or has outputs for other classes."""
    samples, classes = getattr(data, "train_set", None), getattr(data, "num_classes", None)
    weights = next(model.parameters(), None)
    if samples is None or weights is None or weights.is_meta:
        return None
    is_training = model.training
    model.eval()
    try:
        with torch.no_grad(), isolate_rng(), torch.compiler.set_stance("force_eager"):
            outputs = model(data.prepare_inputs(samples.inputs[:2], weights.dtype))
    except (RuntimeError, ValueError, IndexError) as error:
        return f"model must take inputs of shape {tuple(samples.inputs.shape[1:])} of these data: {first_line(error)}"
    finally:
        model.train(is_training)
    found = outputs.shape[1] if outputs.ndim == 2 else classes
    is_fit = classes is None or found == classes or (found, classes) == (1, 2)
    return None if is_fit else f"model must distinguish {classes} classes for these data, got outputs for {found}"
