"""A run changes settings of its Python process; whoever calls it from Python gets them back."""

import contextlib
import gc
import logging
import os
import sys
import threading
from collections.abc import Iterator

import rich
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig


@contextlib.contextmanager
def leave_process_as_found() -> Iterator[None]:
    """Restore, at the end, what a command sets in its process.

    That is: environment variables, ``sys.argv``, thread and log hooks, log handlers, gc thresholds, where the console
    prints.

    Lightning and torch leave variables behind (``PL_GLOBAL_SEED``, ``MASTER_PORT``, …) that a second run in the same
    process would take for its own. Hydra leaves a handler behind that writes what the process logs later into the run's
    ``train.log``.
    """
    environment, arguments = dict(os.environ), list(sys.argv)
    loggers = [logging.getLogger(name) for name in (None, "matplotlib")]
    levels, handlers = [logger.level for logger in loggers], list(logging.root.handlers)
    hook, raises, thresholds = threading.excepthook, logging.raiseExceptions, gc.get_threshold()
    prints_on_stderr = rich.get_console().stderr
    try:
        yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        sys.argv[:] = arguments
        threading.excepthook, logging.raiseExceptions = hook, raises
        gc.set_threshold(*thresholds)
        for handler in set(logging.root.handlers) - set(handlers):
            handler.close()
        logging.root.handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        rich.get_console().stderr = prints_on_stderr


@contextlib.contextmanager
def leave_torch_as_found() -> Iterator[None]:
    """Restore, at the end, what a run sets in torch: ``trainer.deterministic``, ``trainer.benchmark``, threads.

    Where it starts other processes, Lightning divides the threads among them.
    """
    import torch

    threads = torch.get_num_threads()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_deterministic, warn_only=warns_only)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, deterministic


@contextlib.contextmanager
def leave_generators_as_found() -> Iterator[None]:
    """Restore, at the end, the state of the random generators of Python, NumPy and torch."""
    from lightning.pytorch.utilities.seed import isolate_rng

    isolated = isolate_rng()
    isolated.__enter__()
    try:
        yield
    finally:
        isolated.__exit__(None, None, None)  # in a `with` statement it would restore nothing after an error


@contextlib.contextmanager
def leave_hydra_as_found() -> Iterator[None]:
    """Restore, at the end, what a Hydra program sets for the life of its process, and forget it until then."""
    program, settings = GlobalHydra.instance(), HydraConfig.instance()
    hydra, config = program.hydra, settings.cfg
    program.hydra = None
    try:
        yield
    finally:
        program.hydra, settings.cfg = hydra, config
