"""``last.ckpt``: when it is written, and what a bit-identical resume takes beside Lightning's own state."""

import signal
import threading
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from backlit.arguments import Positive, PositiveInt, check_arguments
from backlit.training import lightning_internals
from backlit.training.random_state import rank_state, restore_rank_state


class LastCheckpoint(Checkpoint):
    """A checkpoint after every epoch and, within one, every so many steps or minutes; also when a signal ends the run.

    Beside what Lightning keeps, every checkpoint has the state of each process: its random generators, and what it has
    measured since the last record.

    No checkpoint is written just before a validation, so that all records of its step precede it: a resumed run repeats
    no record.

    Args:
        path: The file.
        every_n_steps: Optimizer steps between two checkpoints; None for none by steps.
        every_n_minutes: Minutes between two checkpoints; None for none by time.

    Raises:
        ValueError: If one of them is not > 0.
    """

    def __init__(
        self, path: Path, *, every_n_steps: PositiveInt | None = None, every_n_minutes: Positive | None = None
    ) -> None:
        check_arguments(LastCheckpoint.__init__, locals())
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self._processes: list[dict[str, Any]] = []
        self._metrics: dict[str, torch.Tensor] = {}
        self._signal = 0
        self._handlers_before: dict[int, Any] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state of each process, and the metrics that a scheduler or callback may ask for later."""
        checkpoint["callback_metrics"] = dict(trainer.callback_metrics)
        state = rank_state(pl_module)
        states: list[Any] = [state]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, state)
        checkpoint["processes"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep these states until training starts, since numbers are drawn before."""
        self._processes = checkpoint.get("processes", [])
        self._metrics = checkpoint.get("callback_metrics", {})
        lightning_internals.end_epoch_once(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore that state; take Ctrl-C and SIGTERM, which are to wait for the end of a batch."""
        if len(self._processes) == trainer.world_size:
            restore_rank_state(pl_module, self._processes[trainer.global_rank])
        self._processes = []
        trainer.callback_metrics.update(self._metrics)
        self._step_plateaus(trainer, pl_module)
        lightning_internals.resume_loops(trainer)
        self._saved_at, self._saved_step = monotonic(), trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it for a script in the background
                    self._handlers_before[number] = signal.signal(number, self._keep_signal)
        lightning_internals.stop_sigterm_broadcast(trainer)

    def _step_plateaus(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step the schedulers that wait for a metric if the checkpoint is of an epoch's end: it is written before."""
        loop = trainer.fit_loop
        if not loop.resumed_on_epoch_end:
            return
        epochs = loop.epoch_progress.current.completed
        for config in trainer.lr_scheduler_configs:
            is_due = config.interval == "epoch" and epochs % config.frequency == 0
            if config.reduce_on_plateau and is_due and config.monitor in self._metrics:
                pl_module.lr_scheduler_step(config.scheduler, self._metrics[config.monitor])

    def _keep_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal:  # the second Ctrl-C asks for an immediate end
            raise KeyboardInterrupt
        self._signal = number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time, or if a signal ends the run."""
        is_late = self.every_n_minutes is not None and monotonic() - self._saved_at >= 60 * self.every_n_minutes
        number, is_late = self._reduce_over_ranks(trainer, is_late)
        is_due = self.every_n_steps is not None and trainer.global_step - self._saved_step >= self.every_n_steps
        if (number or is_late or is_due) and lightning_internals.is_between_steps(trainer):
            self._save(trainer, number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        number, _ = self._reduce_over_ranks(trainer, False)
        self._save(trainer, number)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the run if there has been a signal since the last epoch was saved."""
        number, _ = self._reduce_over_ranks(trainer, False)
        self._end(number)

    def _reduce_over_ranks(self, trainer: Trainer, is_late: bool) -> tuple[int, bool]:
        """Return the signal that one of the processes has got (0 for none), and whether one of them finds it late."""
        if trainer.world_size == 1:
            return self._signal, is_late
        state = torch.tensor([self._signal, is_late], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(state, torch.distributed.ReduceOp.MAX)
        number, late = state.tolist()
        return number, bool(late)

    def _save(self, trainer: Trainer, number: int) -> None:
        """Save, and end the run if there was a signal."""
        trainer.save_checkpoint(self.path)
        self._saved_at, self._saved_step = monotonic(), trainer.global_step
        self._end(number)

    def _end(self, number: int) -> None:
        if number:
            self._signal = 0
            raise KeyboardInterrupt if number == signal.SIGINT else SIGTERMException

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers, and raise a signal that came last again for them."""
        lightning_internals.restore_sigterm_broadcast(trainer)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        self._handlers_before = {}
        number, self._signal = self._signal, 0
        if number:
            signal.raise_signal(number)
