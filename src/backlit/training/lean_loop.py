"""Lightning's training epoch loop without the cost of hooks that nobody implements.

For a network this small, most of a training step in Lightning is bookkeeping: some forty hook calls a step, each
through a profiler context and an attribute of an ``nn.Module``, nearly all of them to methods that do nothing. The
loop here does the same things in the same order, and finds out once an epoch which hooks exist. Progress counters,
logging, validation, checkpoints and stopping are Lightning's own code.

It depends on Lightning's internals, so pyproject.toml bounds Lightning's version, `tests/training/test_lean_loop.py`
compares the two loops, and ``lean_loop=false`` selects Lightning's.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy

# In the order in which a step calls them.
_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
# A module that overrides one of these gets Lightning's loop; so do data that override their transfer.
_OWN_STEP = (
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
)
_OWN_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device")


def use_lean_loop(trainer: Trainer) -> None:
    """Replace Lightning's training epoch loop of `trainer` by the lean one."""
    old = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = LeanTrainingEpochLoop(trainer, old.min_steps, old.max_steps)


class LeanTrainingEpochLoop(_TrainingEpochLoop):
    """Takes a plain step (one device, one optimizer, no accumulation, clipping or mixed precision) without idle hooks.

    Any other step, and the first batch after a restart, is taken by Lightning's own `advance`.
    """

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Find out, once an epoch, whether steps are plain and which hooks exist."""
        super().on_run_start(data_fetcher)
        trainer, module = self.trainer, self.trainer.lightning_module
        select = trainer._data_connector._datahook_selector
        assert select is not None
        self._is_plain = (
            type(trainer.strategy) is SingleDeviceStrategy
            and type(trainer.precision_plugin) is Precision
            and type(trainer.profiler) is PassThroughProfiler
            and not isinstance(data_fetcher, _DataLoaderIterDataFetcher)
            and module.automatic_optimization
            and len(trainer.optimizers) == 1
            # Another package's optimizer may need the closure that only Lightning's loop passes; so does LBFGS.
            and type(trainer.optimizers[0]).__module__.startswith("torch.optim.")
            and not isinstance(trainer.optimizers[0], torch.optim.LBFGS)
            and trainer.accumulate_grad_batches == 1
            and not trainer.gradient_clip_val
            and not any(_implements(module, LightningModule, name) for name in _OWN_STEP)
            and not any(_implements(select.get_instance(name), DataHooks, name) for name in _OWN_TRANSFER)
        )
        self._after_transfer = select.get_instance("on_after_batch_transfer").on_after_batch_transfer
        self._hooks = {
            name: (
                [getattr(callback, name) for callback in trainer.callbacks if _calls(callback, name)],
                getattr(module, name) if _implements(module, LightningModule, name) else None,
            )
            for name in _HOOKS
        }

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the hook of every callback that has it, then the module's, and return the module's result."""
        callback_hooks, module_hook = self._hooks[name]
        if not callback_hooks and module_hook is None:
            return None
        module = self.trainer.lightning_module
        _set_hook(module, name)
        for hook in callback_hooks:
            hook(self.trainer, module, *arguments)
        result = None if module_hook is None else module_hook(*arguments)
        _set_hook(module, None)
        return result

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on one batch.

        Raises:
            StopIteration: At the end of the data, or when ``on_train_batch_start`` returns -1.
        """
        if self.restarting or not self._is_plain:
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        trainer = self.trainer
        progress, steps = self.batch_progress, self.automatic_optimization.optim_progress.optimizer
        connector, results = trainer._logger_connector, self._results

        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        if trainer.strategy.root_device.type != "cpu":
            batch = move_data_to_device(batch, trainer.strategy.root_device)
        batch = self._after_transfer(batch, 0)
        progress.increment_ready()
        connector._first_loop_iter = connector._first_loop_iter is None
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        logged_before = _updates(results)
        skip_rest_of_epoch = self._call("on_train_batch_start", batch, batch_idx) == -1
        loss: dict[str, Any] = {}
        if skip_rest_of_epoch:
            progress.increment_by(0, is_last_batch=True)
        else:
            progress.increment_started()
            steps.step.increment_ready()
            loss = self._step(batch, batch_idx)
            steps.step.increment_completed()
        progress.increment_processed()

        if trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._num_ready_batches_reached():
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        if skip_rest_of_epoch:
            raise StopIteration

        self._call("on_train_batch_end", loss, batch, batch_idx)
        if _updates(results) != logged_before:
            connector.on_batch_end()
        results.batch = results.batch_size = None
        progress.increment_completed()
        if results and (connector.should_update_logs or trainer.fast_dev_run):
            connector.update_train_step_metrics()

    def _step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Forward, backward, optimizer; return the outputs for ``on_train_batch_end``."""
        module, optimizer = self.trainer.lightning_module, self.trainer.optimizers[0]
        counters = self.automatic_optimization.optim_progress.optimizer.zero_grad
        _set_hook(module, "training_step")
        output = module.training_step(batch, batch_idx)
        _set_hook(module, None)
        loss = output["loss"] if isinstance(output, Mapping) else output
        if loss is None:
            self._warning_cache.warn("`training_step` returned `None`. If this was on purpose, ignore this warning...")
        counters.increment_ready()
        self._call("on_before_zero_grad", optimizer)
        counters.increment_started()
        optimizer.zero_grad()
        counters.increment_completed()
        if loss is not None:
            self._call("on_before_backward", loss)
            loss.backward()
            self._call("on_after_backward")
        self._call("on_before_optimizer_step", optimizer)
        optimizer.step()
        if loss is None:
            return {}
        return {**(output if isinstance(output, Mapping) else {}), "loss": loss.detach()}

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        """Return whether validation is due; for nearly all batches that is known without Lightning's checks."""
        trainer, every = self.trainer, self.trainer.val_check_batch
        if (
            not trainer.should_stop
            and not self.batch_progress.is_last_batch
            and trainer.check_val_every_n_epoch is not None
            and isinstance(every, int)
            and (self.batch_idx + 1) % every
        ):
            return False
        return super()._should_check_val_fx(data_fetcher)


def _set_hook(module: LightningModule, name: str | None) -> None:
    """Set the hook that `LightningModule.log` is called in, without the slow ``__setattr__`` of an ``nn.Module``."""
    object.__setattr__(module, "_current_fx_name", name)


def _implements(instance: object, base: type, name: str) -> bool:
    """Return whether an object has a method `name` of its own, by its class or set on it, other than `base`'s."""
    method = getattr(instance, name)
    return getattr(method, "__func__", method) is not getattr(base, name)


def _calls(callback: Callback, name: str) -> bool:
    """Return whether a step has to call this hook of a callback."""
    if (
        isinstance(callback, ModelCheckpoint)
        and name == "on_train_batch_end"
        and not _implements(callback, ModelCheckpoint, name)
    ):
        # One that saves by epochs alone returns at once, at every step.
        return callback._every_n_train_steps > 0 or callback._train_time_interval is not None
    return _implements(callback, Callback, name)


def _updates(results: Any) -> int:
    """Return how often something has been logged since the epoch began."""
    return sum(item._update_count for item in results.values())
