"""Every private part of Lightning, torch and Hydra that backlit touches, `lean_loop` apart.

Each function says why it is needed and what breaks without it; `tests/training/test_lightning_internals.py` has one
test for each, which fails when the part changes. Nothing heavy is imported at the top: the commands need
`share_config_store` before they import Lightning.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore

if TYPE_CHECKING:
    from lightning import Trainer

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


def resume_loops(trainer: "Trainer") -> None:
    """Hand the loader its state, and let the epoch's end step the schedulers; when training starts.

    Where a scheduler has asked for the number of steps, Lightning made the loader before it had the loader's state, and
    forgets to hand it over: the epoch would begin with its first batch. And a fit loop that restarts steps no scheduler
    that waits for a metric, since Lightning does not keep the metrics; `LastCheckpoint` does.
    """
    trainer.fit_loop.__dict__.pop("_iteration_based_training", None)
    trainer.fit_loop._load_combined_loader_states()
    trainer.fit_loop._restarting = False


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
