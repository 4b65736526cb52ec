"""Every private part of Lightning, torch and Hydra that backlit touches, `lean_loop` apart.

Each function says why it is needed and what breaks without it; `tests/training/test_lightning_internals.py` has one
test for each, which fails when the part changes. Nothing heavy is imported at the top: the commands need
`share_config_store` before they import Lightning.
"""

import contextlib
import functools
import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore

if TYPE_CHECKING:
    from lightning import Trainer
    from lightning.pytorch.callbacks import RichProgressBar
    from lightning.pytorch.tuner.lr_finder import _LRFinder

ProcessObserver = Callable[["list[subprocess.Popen[bytes]]"], None]


@contextlib.contextmanager
def share_config_store() -> Iterator[None]:
    """Let Hydra read its `ConfigStore` without copying it.

    Whenever Hydra composes, or lists a group, it copies this singleton with all that plugins have stored in it, and
    then copies what it reads. Without this, ``--help`` takes 0.35 s longer with the plugins of the extras.
    """
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del ConfigStore.__deepcopy__  # type: ignore[attr-defined]


def skip_nvml_probe() -> None:
    """Let torch find out by the CUDA driver, not by NVML, whether there is a GPU; for a machine that has none.

    Lightning sets the variable so that a process may still fork after it has asked. Without NVML each question fails by
    opening a library, 0.1 ms, and `torch.optim.Adam` asks at every step.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def read_entry_points_once() -> None:
    """Let Lightning read once, for this process and those forked from it, which packages offer callbacks of their own.

    Every Trainer reads the metadata of all installed packages for that, 6 of the 55 ms that the check of a job takes.
    """
    registry: Any = importlib.import_module("lightning.fabric.utilities.registry")
    if not hasattr(registry.entry_points, "cache_info"):
        registry.entry_points = functools.cache(registry.entry_points)
    registry.entry_points(group="lightning.pytorch.callbacks_factory")


def replace_sigterm_handler(trainer: "Trainer", handler: Callable[[int, FrameType | None], None]) -> None:
    """Let `handler` take SIGTERM where Lightning takes it.

    Lightning's own talks to the other processes from within the signal, in the midst of whatever they do. Without this
    a run of several processes hangs when one of them gets SIGTERM outside of a training step.
    """
    trainer._signal_connector._sigterm_notifier_fn = handler  # type: ignore[assignment,method-assign]


@contextlib.contextmanager
def replace_process_observer(observe: ProcessObserver) -> Iterator[None]:
    """Let `observe` watch over the processes that Lightning starts, within this context.

    Lightning's own observer kills the first process by SIGKILL when another one fails. Without this ``run.json`` would
    say that the run was killed, and not why.
    """
    from lightning.pytorch.strategies.launchers import subprocess_script

    module: Any = subprocess_script
    original, module._launch_process_observer = module._launch_process_observer, observe
    try:
        yield
    finally:
        module._launch_process_observer = original


def child_processes(trainer: "Trainer") -> "list[subprocess.Popen[bytes]]":
    """Return the processes that Lightning has started for a trainer; they have to be waited for, or ended."""
    from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

    launcher = trainer.strategy.launcher
    return launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []


def end_epoch_once(trainer: "Trainer") -> None:
    """Let a run that is bounded by ``max_steps`` resume behind the epoch that its checkpoint has completed.

    Where steps are counted, Lightning takes a checkpoint of an epoch's end for one from within the epoch. Without this
    it ends that epoch a second time, and the run is not bit-identical. `resume_loops` undoes it.
    """
    if trainer.max_steps != -1:
        batches = trainer.fit_loop.epoch_loop.batch_progress
        trainer.fit_loop._iteration_based_training = lambda: not batches.is_last_batch  # type: ignore[method-assign]


def complete_last_epoch(trainer: "Trainer") -> None:
    """Count the last epoch of a fit that has ended.

    A fit that resumes behind its last step returns at once, and does not count the epoch that its checkpoint is of.
    Without this the records of the test would have another epoch than those of an uninterrupted run.
    """
    epochs: Any = trainer.fit_loop.epoch_progress.current
    epochs.completed = epochs.processed


def resume_loops(trainer: "Trainer") -> None:
    """Hand the loader its state, and let the epoch's end step the schedulers; when training starts.

    Where a scheduler has asked for the number of steps, Lightning made the loader before it had the loader's state, and
    forgets to hand it over: the epoch would begin with its first batch. And a fit loop that restarts steps no scheduler
    that waits for a metric, since Lightning does not keep the metrics; `LastCheckpoint` does. An epoch that begins anew
    gets an iteration of its own: the loop would take the one that it has begun before the random generators were
    restored.
    """
    loop = trainer.fit_loop
    loop.__dict__.pop("_iteration_based_training", None)
    loop._load_combined_loader_states()
    loop._restarting = False
    loop._resuming_from_checkpoint = loop.restarted_mid_epoch


def logged_sums(trainer: "Trainer") -> dict[str, list[Any]]:
    """Return what ``self.log(…, on_epoch=True)`` has summed up in the epoch so far: value, number of samples.

    Lightning keeps neither. Without this an epoch's mean would be that of the batches after a resume.
    """
    return {
        key: [result.value, *([result.cumulated_batch_size] if result.meta.is_mean_reduction else [])]
        for key, result in trainer.fit_loop.epoch_loop._results.items()
        if result.is_tensor and result.meta.on_epoch
    }


def add_logged_sums(trainer: "Trainer", sums: dict[str, list[Any]]) -> None:
    """Add what `logged_sums` has returned to what a resumed epoch has logged, and remove it from `sums`."""
    for key, result in trainer.fit_loop.epoch_loop._results.items():
        if key in sums:
            value, *size = (part.to(result.value.device) for part in sums.pop(key))
            if size:
                result.cumulated_batch_size = size[0] + result.cumulated_batch_size
            is_extreme = result.meta.is_max_reduction or result.meta.is_min_reduction
            result.value = result.meta.reduce_fx(value, result.value) if is_extreme else value + result.value


def train_loaders(trainer: "Trainer") -> "list[Any]":
    """Return the loaders of training, as Lightning has prepared them; none before it has.

    ``Trainer.train_dataloader`` has them in the structure in which the data module has returned them.
    """
    loader = trainer.fit_loop._combined_loader
    return [] if loader is None else list(loader.flattened)


def repeat_batches(trainer: "Trainer") -> None:
    """Begin the iteration of a resumed epoch, and skip the batches that are done.

    Lightning does so only for loaders that have a state. Without this a `DataLoader` would begin a new order, and the
    rest of the epoch would have samples of its first part.
    """
    from lightning.fabric.utilities.data import _set_sampler_epoch

    loop = trainer.fit_loop
    for loader in train_loaders(trainer):
        _set_sampler_epoch(loader, loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
    fetcher = loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)
    done = loop.epoch_loop.batch_progress.current.ready
    for _ in range(done):
        next(fetcher)
    fetcher.fetched -= done  # the epoch's loop adds them


def stop_sigterm_broadcast(trainer: "Trainer") -> None:
    """Let the processes not ask the first one at every step whether it has got SIGTERM.

    `LastCheckpoint` asks each of them, for Ctrl-C too. Without this there would be two questions a step, and a SIGTERM
    to another than the first process would go unnoticed.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def restore_sigterm_broadcast(trainer: "Trainer") -> None:
    """Undo `stop_sigterm_broadcast`."""
    trainer.fit_loop.epoch_loop.__dict__.pop("_broadcast_sigterm_tensor", None)


def is_between_steps(trainer: "Trainer") -> bool:
    """Return whether the batch that has just ended is neither followed by a validation nor part of an accumulation.

    A checkpoint at such a batch has all records of its step behind it, and no gradients that are in no checkpoint.
    Without the question a resumed run would record a step twice.
    """
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    validates = trainer.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
    return not (validates or loop._should_accumulate())


def name_epochs(bar: "RichProgressBar", name: Callable[[], str]) -> None:
    """Let a progress bar show `name()` as the current epoch.

    Lightning counts from 0, and the last epoch with them. Without this the bar says "Epoch 1/2" while the log says
    "epoch 2/3".
    """
    bar._get_train_description = lambda current_epoch: name().ljust(  # type: ignore[method-assign]
        len(bar.validation_description)
    )


def correct_smoothing(found: "_LRFinder") -> None:
    """Make the losses of a learning rate finder running means.

    Lightning divides the exponential mean of n losses by ``1 - 0.98 ** (n + 1)``, the weights of n + 1: the first loss
    is half of what it was, and the curve begins with a rise.
    """
    losses, beta = found.results["loss"], 0.98
    found.results["loss"] = [loss * (1 - beta ** (n + 1)) / (1 - beta**n) for n, loss in enumerate(losses, start=1)]
