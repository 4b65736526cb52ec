"""Lightning's Trainer, with the callbacks, loggers and files that every run has."""

import inspect
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import Strategy, StrategyRegistry

from backlit.runs.checkpoint import SafeCheckpointIO
from backlit.text import first_line
from backlit.training.lean_loop import use_lean_loop

_PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
_HARDWARE_KEYS = ("accelerator", "devices", "strategy", "num_nodes", "precision")
_HARDWARE_WORDS = ("accelerator", "backend", "device", "strategy")


def build_trainer(
    make_trainer: partial[Any],
    flags: Mapping[str, Any],
    *,
    run_dir: Path,
    callbacks: list[Callback],
    loggers: list[Logger],
    checkpoint_io: SafeCheckpointIO,
    timeout: timedelta,
    is_lean: bool,
) -> Trainer:
    """Return Lightning's Trainer.

    Args:
        make_trainer: Makes it from the arguments that are not in the config.
        flags: The config's arguments, as plain data.
        run_dir: The run directory.
        callbacks: In the order in which they are called; a progress bar is left out where there is no terminal.
        loggers: In the order in which they are called.
        checkpoint_io: Writes and reads checkpoints.
        timeout: How long a process waits for the others.
        is_lean: Skip the hooks that nobody implements (`backlit.training.lean_loop`).

    Raises:
        ValueError: If the machine does not have the hardware, or if arguments exclude each other.
    """
    if not (flags["enable_progress_bar"] and sys.stdout.isatty()):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    more: dict[str, Any] = {}
    if isinstance(flags["profiler"], str) and flags["profiler"] in _PROFILERS:
        # By its name alone Lightning would give the profile to a log that is kept quiet here.
        more["profiler"] = _PROFILERS[flags["profiler"]](dirpath=run_dir, filename="profile")
    if isinstance(flags["strategy"], str):
        more["strategy"] = _build_strategy(flags, timeout)
    try:
        trainer: Trainer = make_trainer(
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=run_dir,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            plugins=[*(make_trainer.keywords.get("plugins") or []), checkpoint_io],
            **more,
        )
    except Exception as error:
        if not any(word in str(error).lower() for word in _HARDWARE_WORDS):
            raise
        asked = ", ".join(f"{key}={flags[key]}" for key in _HARDWARE_KEYS)
        reason = first_line(error)
        if "interactive environment" in reason:  # Lightning advises ddp_notebook, which cannot work here
            reason = "several processes need a script or backlit-train; a notebook or prompt has one"
        raise ValueError(f"must fit this machine and itself, got {asked}: {reason}") from error
    if is_lean:
        use_lean_loop(trainer)
    return trainer


def _build_strategy(flags: Mapping[str, Any], timeout: timedelta) -> Strategy | str:
    """Return the strategy that a name stands for, with the process group's timeout; the name where it has none."""
    name = "ddp" if flags["strategy"] == "auto" and _has_several_processes(flags) else flags["strategy"]
    if name not in StrategyRegistry:
        return str(name)
    kind, arguments = StrategyRegistry[name]["strategy"], StrategyRegistry[name]["init_params"]
    if "timeout" not in inspect.signature(kind).parameters:
        return str(name)
    strategy: Strategy = kind(**arguments, timeout=timeout)
    return strategy


def _has_several_processes(flags: Mapping[str, Any]) -> bool:
    """Return whether ``strategy=auto`` means several processes, for which Lightning takes ``ddp``."""
    devices = flags["devices"]
    if flags["num_nodes"] > 1 or (isinstance(devices, list) and len(devices) > 1):
        return True
    if devices in ("auto", -1):
        return flags["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.device_count() > 1
    return isinstance(devices, int) and devices > 1
