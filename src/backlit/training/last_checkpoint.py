"""``last.ckpt``: when it is written, and what a bit-identical resume takes beside Lightning's own state."""

import logging
import signal
import threading
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException

from backlit.arguments import Positive, PositiveInt, check_arguments
from backlit.loggers import MetricsCSV, MLFlowLogger, TensorBoardLogger
from backlit.training import lightning_internals
from backlit.training.early_stop import find_reason
from backlit.training.inexact import inexact_parts
from backlit.training.loader_order import LoaderOrder, has_plain_loaders, own_generators
from backlit.training.random_state import metric_states, rank_state, restore_metrics, restore_rank_state

log = logging.getLogger(__name__)


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
        self._order = LoaderOrder()
        self._processes: list[dict[str, Any]] = []
        self._metrics: dict[str, torch.Tensor] = {}
        self._logged: dict[str, list[torch.Tensor]] = {}
        self._stopped: list[Any] | None = None
        self._signal = 0
        self._handlers_before: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the generators: Lightning begins the first epoch's iteration before any other hook."""
        self._processes, self._metrics, self._logged = [], {}, {}  # of the checkpoint that was tested last
        if stage == "fit":
            self._order.keep(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the generators: the epoch's iteration begins, that of the first epoch apart."""
        if trainer.current_epoch and has_plain_loaders(trainer):
            self._order.keep(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state of each process, and what a scheduler, a callback or a logger may ask for later.

        What loggers buffer is written: a kill would lose records that the checkpoint has behind it.
        """
        checkpoint["callback_metrics"] = dict(trainer.callback_metrics)
        checkpoint["stopped"] = _stop_state(trainer)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                checkpoint["metrics_csv_rows"] = len(logger.rows)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
            elif isinstance(logger, MLFlowLogger):
                logger.flush()
        state = rank_state(pl_module, own_generators(trainer))
        if has_plain_loaders(trainer):
            state["order"] = self._order.state
        state["metrics"] = metric_states(pl_module)
        state["logged"] = lightning_internals.logged_sums(trainer)
        states: list[Any] = [state]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, state)
        checkpoint["processes"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep these states until training starts, since numbers are drawn before."""
        self._processes = checkpoint.get("processes", [])
        self._metrics = checkpoint.get("callback_metrics", {})
        self._stopped = checkpoint.get("stopped")
        lightning_internals.end_epoch_once(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the training be over if a callback had ended it, unless it is gone or changed, or more is asked for."""
        if self._stopped is not None:
            trainer.should_stop = True
            trainer.should_stop = _stop_state(trainer) == self._stopped
        self._stopped = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore that state; take Ctrl-C and SIGTERM, which are to wait for the end of a batch."""
        if trainer.is_global_zero:
            for line in inexact_parts(trainer):
                log.warning(line)
        trainer.callback_metrics.update(self._metrics)
        self._step_plateaus(trainer, pl_module)
        lightning_internals.resume_loops(trainer)
        if trainer.fit_loop.restarted_mid_epoch:
            _repeat_epoch_start(trainer, pl_module)
            self._order.state = self._state_before(trainer).get("order")
            self._order.replay(trainer, pl_module)
        self._restore_process(trainer, pl_module)
        self._saved_at, self._saved_step = monotonic(), trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it for a script in the background
                    self._handlers_before[number] = signal.signal(number, self._keep_signal)
        lightning_internals.stop_sigterm_broadcast(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore that state if nothing was left to train: what follows may draw numbers, and reports the metrics."""
        trainer.callback_metrics.update(self._metrics)
        self._restore_process(trainer, pl_module)

    def _state_before(self, trainer: Trainer) -> dict[str, Any]:
        """Return the state of this process in the checkpoint; empty where that is of other processes, or none."""
        fits = len(self._processes) == trainer.world_size
        return self._processes[trainer.global_rank] if fits else {}

    def _restore_process(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore, once, the state of this process."""
        if state := self._state_before(trainer):
            restore_rank_state(pl_module, state, own_generators(trainer))
            if trainer.fit_loop.restarted_mid_epoch:
                restore_metrics(pl_module, state.get("metrics", {}))
                self._logged = state.get("logged", {})
        self._processes, self._metrics = [], {}

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
        if self._logged:  # of a resumed epoch; what this batch has logged for the first time
            lightning_internals.add_logged_sums(trainer, self._logged)
        is_late = self.every_n_minutes is not None and monotonic() - self._saved_at >= 60 * self.every_n_minutes
        number, is_late = self._reduce_over_ranks(trainer, is_late)
        is_due = self.every_n_steps is not None and trainer.global_step - self._saved_step >= self.every_n_steps
        if (number or is_late or is_due) and lightning_internals.is_between_steps(trainer):
            self._save(trainer, number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        self._logged = {}
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


def _stop_state(trainer: Trainer) -> list[Any] | None:
    """Return, if a callback has ended the training, which one and why, and the Trainer's limits; else None."""
    return [find_reason(trainer), trainer.max_epochs, trainer.max_steps] if trainer.should_stop else None


def _repeat_epoch_start(trainer: Trainer, pl_module: LightningModule) -> None:
    """Let the callbacks that set up an epoch when it starts do so for one that is resumed; Lightning does not."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientAccumulationScheduler | StochasticWeightAveraging):
            groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
            rates = [group["lr"] for group in groups]
            callback.on_train_epoch_start(trainer, pl_module)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate  # averaging makes a scheduler, which takes a step
