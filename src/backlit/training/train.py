"""One run from its config to its results, and how it ends."""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from backlit.distributed.environment import is_lightning_child, launcher_environment
from backlit.distributed.rendezvous import local_store
from backlit.distributed.supervise import supervise_ranks
from backlit.errors import ConfigError
from backlit.logs import quiet_lightning
from backlit.runs.config_files import write_config
from backlit.runs.files import is_disk_error, lock_directory, new_directory, remove_directories
from backlit.runs.record import RunRecord
from backlit.runs.results import Results
from backlit.text import shell_path
from backlit.training import ending, lightning_internals
from backlit.training.build import RunParts, build_run
from backlit.training.fit import fit_and_test
from backlit.training.restore_process import leave_process_as_found, leave_torch_as_found
from backlit.training.run_loggers import begin_sessions
from backlit.training.signals import raise_system_exit, sigterm_ends_in_order

log = logging.getLogger(__name__)


def train(cfg: DictConfig, run_dir: Path | None = None) -> dict[str, float]:
    """Train, test the best checkpoint, write the run directory, and return the final metrics.

    The process is left as it was found, the state of its random generators apart.

    Args:
        cfg: What ``conf/train.yaml`` composes to.
        run_dir: An existing directory; None makes one under ``outputs/``.

    Raises:
        ConfigError: If something is wrong with the config; it names all that is.
        FloatingPointError: If a loss is not finite.
    """
    made: list[Path] = []
    if not HydraConfig.initialized():
        cfg = OmegaConf.merge(cfg, {"output_dir": None})  # type: ignore[assignment]  # a recorded config has one
    with leave_process_as_found(), leave_torch_as_found():
        if run_dir is None:
            run_dir = _make_run_directory(cfg.task_name, made)
        try:
            parts = build_run(cfg, run_dir)
        except ConfigError:
            remove_directories(made)
            raise
        whole = OmegaConf.merge(cfg, {"output_dir": str(run_dir)})
        is_written_here = not HydraConfig.initialized()
        if is_written_here and not parts.is_extension:
            write_config(run_dir, {"config": whole})
        results = run(parts)
        if is_written_here and parts.is_extension:  # that of the completed run was valid until now
            write_config(run_dir, {"config": whole})
        return results.metrics


@quiet_lightning()
def run(parts: RunParts) -> Results:
    """Train and test what was built, and write the run directory.

    Raises:
        FloatingPointError: If a loss is not finite.
        RankError: If another process of the run has ended or does not answer.
        SystemExit: If a signal ends the run.
        ConfigError: If another process runs what is in the directory.
    """
    with contextlib.ExitStack() as at_end:
        if parts.trainer.is_global_zero:
            at_end.callback(lock_directory(parts.run_dir).release)
        for caught in parts.caught_warnings:
            warnings.warn_explicit(caught.message, caught.category, caught.filename, caught.lineno)
        record = parts.start.record = _begin_record(parts)
        if parts.steps_done and parts.trainer.is_global_zero:
            log.info("resumes at step %d: %s", parts.steps_done, shell_path(parts.run_dir))
        elif parts.config["train"] and parts.config["ckpt_path"] and parts.trainer.is_global_zero:
            log.info("starts with the weights of %s", shell_path(Path(parts.config["ckpt_path"])))
        if parts.initial is not None and parts.trainer.is_global_zero:
            parts.initial.report()
        try:
            with _supervised(parts):
                begin_sessions(parts, record)
                results = fit_and_test(parts)
        except BaseException as error:
            ending.end_without_results(parts, record, error)
            raise
        if record is not None:
            ending.complete(parts, record, results)
        return results


@contextlib.contextmanager
def _supervised(parts: RunParts) -> Iterator[None]:
    """Let signals, a full disk and the end of another process end the run with a reason, within this context."""
    trainer = parts.trainer
    lightning_internals.replace_sigterm_handler(trainer, raise_system_exit)
    children = partial(lightning_internals.child_processes, trainer)
    starts_others = trainer.world_size > 1 and launcher_environment() is None and not is_lightning_child()
    before, threading.excepthook = threading.excepthook, _report_thread_error
    try:
        with (
            sigterm_ends_in_order(),
            supervise_ranks(
                parts.run_dir, parts.config["process_timeout"], rank=trainer.global_rank, children=children
            ) as observe,
            lightning_internals.replace_process_observer(observe),
            local_store() if starts_others else contextlib.nullcontext(),
        ):
            yield
    finally:
        threading.excepthook = before


def _report_thread_error(arguments: threading.ExceptHookArgs) -> None:
    """Report what a thread has raised; a full disk, on which TensorBoard writes in a thread, is reported by the run."""
    if arguments.exc_value is None or not is_disk_error(arguments.exc_value):
        threading.__excepthook__(arguments)


def _make_run_directory(task_name: str, made: list[Path]) -> Path:
    """Return a new directory for a run that is started from Python; in another process of it, the first one's."""
    if is_lightning_child():
        return Path(os.environ["BACKLIT_RUN_DIR"])
    run_dir = new_directory(Path("outputs", task_name, "runs", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"), made)
    os.environ["BACKLIT_RUN_DIR"] = str(run_dir.resolve())
    return run_dir


def _begin_record(parts: RunParts) -> RunRecord | None:
    """Write ``run.json``, in the first process; return None in the others."""
    trainer, is_command = parts.trainer, HydraConfig.initialized()
    if not trainer.is_global_zero:
        return None
    facts: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "device": _describe_device(trainer.strategy.root_device),
        "precision": trainer.precision,
        "world_size": trainer.world_size,
        "optimized_metric": parts.config["optimized_metric"],
        "optimized_mode": parts.config["optimized_mode"],
    }
    return RunRecord(
        parts.run_dir,
        seed=parts.config["seed"],
        overrides=list(HydraConfig.get().overrides.task) if is_command else [],
        arguments=sys.argv[1:] if is_command else None,
        is_extension=parts.is_extension,
        **facts,
    )


def _describe_device(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
