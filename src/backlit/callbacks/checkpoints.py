"""How checkpoints are written, and what a run goes on from, with all that a bit-identical continuation takes."""

import io
import os
import random
import signal
import threading
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import numpy
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from backlit.load import read_checkpoint
from backlit.models import Classifier
from backlit.run import whole_file


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all, are read only if they are what was written, and run no code.

    What ``last.ckpt`` was before is kept as ``previous.ckpt``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If it cannot be written; what was there before is there still.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch.save's own writer makes a RuntimeError without a reason of a full disk
        torch.save(checkpoint, content)
        previous = path.with_name("previous.ckpt") if path.name == "last.ckpt" else None
        with whole_file(path, previous) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what a checkpoint holds, plain data.

        Raises:
            ValueError: If it is damaged, or no checkpoint.
        """
        return read_checkpoint(Path(path), map_location)


class LastCheckpoint(Checkpoint):
    """A checkpoint after every epoch and, within one, every so many steps or minutes; also when a signal ends the run.

    Beside what Lightning keeps, every checkpoint gets the state of each process: its random generators, and what has
    been measured since the last record.

    Never at a batch that a validation follows: the records of a checkpoint's step are then all behind it, and a run
    that goes on from there repeats none.

    Args:
        path: The file.
        every_n_steps: Optimizer steps from one to the next; None for none by steps.
        every_n_minutes: Minutes from one to the next; None for none by time.

    Raises:
        ValueError: If one of them is not > 0.
    """

    def __init__(self, path: Path, *, every_n_steps: int | None = None, every_n_minutes: float | None = None) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("every_n_minutes", every_n_minutes)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0 or null, got {value}")
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self._processes: list[dict[str, Any]] = []
        self._metrics: dict[str, torch.Tensor] = {}
        self._signal = 0
        self._before: dict[int, Any] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state of each process, and the metrics that a scheduler or callback may ask for later."""
        checkpoint["callback_metrics"] = dict(trainer.callback_metrics)
        state = _state(pl_module)
        states: list[Any] = [state]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, state)
        checkpoint["processes"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep them until training starts: what comes before draws numbers too. Find the best checkpoint again."""
        self._processes = checkpoint.get("processes", [])
        self._metrics = checkpoint.get("callback_metrics", {})
        loop = trainer.fit_loop
        if trainer.max_steps != -1:
            # Where steps are counted, Lightning would end an epoch again that was over at the checkpoint.
            batches = loop.epoch_loop.batch_progress
            loop._iteration_based_training = lambda: not batches.is_last_batch  # type: ignore[method-assign]
        directory = self.path.parent
        for state in checkpoint["callbacks"].values():
            before = state.get("dirpath") if isinstance(state, dict) else None
            # Of a run that goes on elsewhere Lightning would forget what the best was; and it deletes what was best
            # before, which must be a file of this run.
            if before and (directory / Path(state["best_model_path"]).name).is_file():
                moved = {
                    name: str(directory / Path(value).name) for name, value in state.items() if _is_in(value, before)
                }
                best = {str(directory / Path(path).name): score for path, score in state["best_k_models"].items()}
                state.update(moved, dirpath=str(directory), best_k_models=best)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with that state; take Ctrl-C and SIGTERM, which are to wait for the end of a batch."""
        if len(self._processes) == trainer.world_size:
            _restore(pl_module, self._processes[trainer.global_rank])
        self._processes = []
        trainer.callback_metrics.update(self._metrics)
        self._step_plateaus(trainer, pl_module)
        trainer.fit_loop.__dict__.pop("_iteration_based_training", None)
        # Where a scheduler has asked for the number of steps, Lightning made the loader before it had its state, and
        # forgets to hand it over. The loader begins with its first batch, so now is in time.
        trainer.fit_loop._load_combined_loader_states()
        # Nothing asks any more but the end of the epoch, where Lightning would step no scheduler that waits for a
        # metric, since it does not keep the metrics.
        trainer.fit_loop._restarting = False
        self._saved_at, self._saved_step = monotonic(), trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it for what runs behind a script
                    self._before[number] = signal.signal(number, self._take)
        # Lightning asks the first process at every step whether it has got SIGTERM; here each is asked, for both.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]

    def _step_plateaus(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step the schedulers that wait for a metric if the checkpoint is of an epoch's end: that comes before."""
        loop = trainer.fit_loop
        if not loop.resumed_on_epoch_end:
            return
        epochs = loop.epoch_progress.current.completed
        for config in trainer.lr_scheduler_configs:
            is_due = config.interval == "epoch" and epochs % config.frequency == 0
            if config.reduce_on_plateau and is_due and config.monitor in self._metrics:
                pl_module.lr_scheduler_step(config.scheduler, self._metrics[config.monitor])

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal:  # somebody asks again, and wants it at once
            raise KeyboardInterrupt
        self._signal = number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time, or if the run is to end."""
        is_late = self.every_n_minutes is not None and monotonic() - self._saved_at >= 60 * self.every_n_minutes
        number, is_late = self._of_all(trainer, is_late)
        is_due = self.every_n_steps is not None and trainer.global_step - self._saved_step >= self.every_n_steps
        if not (number or is_late or is_due):
            return
        loop = trainer.fit_loop
        assert loop._data_fetcher is not None
        validates = trainer.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
        # Gradients that accumulate are in no checkpoint.
        if not (validates or loop._should_accumulate()):
            self._save(trainer, number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        number, _ = self._of_all(trainer, False)
        self._save(trainer, number)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the run if there has been a signal since the last epoch was saved."""
        number, _ = self._of_all(trainer, False)
        self._end(number)

    def _of_all(self, trainer: Trainer, is_late: bool) -> tuple[int, bool]:
        """Return the signal that one of the processes has got (0 is none), and whether one of them finds it late."""
        if trainer.world_size == 1:
            return self._signal, is_late
        told = torch.tensor([self._signal, is_late], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        number, late = told.tolist()
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
        """Leave the signals as they were, and what came last to whom it concerns."""
        trainer.fit_loop.epoch_loop.__dict__.pop("_broadcast_sigterm_tensor", None)
        for taken, handler in self._before.items():
            signal.signal(taken, handler)
        self._before = {}
        number, self._signal = self._signal, 0
        if number:
            signal.raise_signal(number)


def _nothing() -> None:
    pass


def _is_in(value: Any, directory: str) -> bool:
    return isinstance(value, str) and value.startswith(f"{directory}{os.sep}")


def _state(pl_module: LightningModule) -> dict[str, Any]:
    """Return, as plain data, what Lightning does not keep of a process."""
    version, internal, gauss = random.getstate()
    generator: Any = numpy.random.get_state()
    name, keys, *rest = generator
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if pl_module.device.type == "cuda" else None,
        "measured": pl_module.measured() if isinstance(pl_module, Classifier) else None,
    }


def _restore(pl_module: LightningModule, state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and pl_module.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
    if state["measured"] is not None and isinstance(pl_module, Classifier):
        pl_module.go_on_measuring(state["measured"])
