"""How a run ends: what its record, its loggers and the console say of a success, a failure, a signal, a full disk."""

import contextlib
import logging
import sys

from backlit.errors import ConfigError
from backlit.loggers import TensorBoardLogger
from backlit.runs.checkpoint import find_last_checkpoint
from backlit.runs.commands import evaluate_command, resume_command
from backlit.runs.files import is_disk_error
from backlit.runs.record import RunRecord
from backlit.runs.results import Results
from backlit.text import metrics_table, shell_path
from backlit.training.build import RunParts
from backlit.training.run_loggers import end_sessions
from backlit.training.signals import interrupting_signal

log = logging.getLogger(__name__)

# What shells expect of a program that a signal ended; Lightning exits with 0 and 1.
_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


def complete(parts: RunParts, record: RunRecord, results: Results) -> None:
    """Record that a run has completed; print its metrics and what to type next."""
    _end(parts, record, "completed", metrics=results.metrics)
    run_dir = shell_path(parts.run_dir)
    seconds, steps = record.content["duration_s"], parts.trainer.global_step
    log.info("%s: completed in %.1f s, %d steps", parts.config["task_name"], seconds, steps)
    log.info(metrics_table(results.metrics) + "\n")
    unnamed = "in memory" if parts.last is None else "not kept"
    weights = [f"{stage}: {path or unnamed}" for stage, path in results.stage_checkpoints.items()]
    log.info("  weights   %s", ", ".join(weights))
    log.info("  run       %s", run_dir)
    if (parts.run_dir / "tensorboard").exists():
        log.info("  curves    tensorboard --logdir %s", run_dir)
    if (parts.run_dir / "weights.pth").exists():
        log.info("  evaluate  %s", evaluate_command(parts.run_dir))


def end_without_results(parts: RunParts, record: RunRecord | None, error: BaseException) -> None:
    """Record why a run has failed or was interrupted, and print it.

    Args:
        parts: What the run is made of.
        record: Its record; None in all processes but the first.
        error: What ended it.

    Raises:
        SystemExit: If a signal ended it.
    """
    if is_disk_error(error):
        assert isinstance(error, OSError)
        if record is not None:
            _end_on_full_disk(parts, record, error)
        return
    signal = interrupting_signal(error)
    if record is not None:
        _end(parts, record, "interrupted" if signal else "failed", signal or _describe(error))
        if signal:
            step = f" at step {parts.trainer.global_step}" if parts.trainer.global_step else ""
            log.warning("interrupted%s; the run directory is %s", step, shell_path(parts.run_dir))
            if parts.last is not None and record.content["arguments"] is not None:
                log.warning("  resume    %s", resume_command(parts.run_dir, record.content["arguments"]))
        elif not isinstance(error, ConfigError):  # which the command reports
            written = shell_path(parts.run_dir / "train.log")
            log.error("failed: %s; the traceback is in %s", error, written, exc_info=error)
    elif not signal:
        log.error("process %d failed: %s", parts.trainer.global_rank, error, exc_info=error)
    if signal:
        sys.exit(_EXIT_CODES[signal])


def _end(
    parts: RunParts,
    record: RunRecord,
    status: str,
    error: str | None = None,
    metrics: dict[str, float] | None = None,
) -> None:
    """Write the status into ``run.json``, and where the loggers write."""
    record.end(status, error)
    end_sessions(parts, status, metrics or {})


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _end_on_full_disk(parts: RunParts, record: RunRecord, error: OSError) -> None:
    """Record a full disk; add to the error's reason what is kept, and how to resume elsewhere."""
    with contextlib.suppress(OSError):  # then it stays `running`, of a process that has ended: interrupted
        record.end("failed", _describe(error))
    # TensorBoard's files are on the full disk, or on one like it.
    parts.sessions = {k: logger for k, logger in parts.sessions.items() if not isinstance(logger, TensorBoardLogger)}
    end_sessions(parts, "failed", {})
    checkpoint = find_last_checkpoint(parts.run_dir)
    kept = "no checkpoint had been written"
    if checkpoint is not None:
        kept = f"{checkpoint.path.name} of step {checkpoint.content['global_step']} is kept"
    error.filename = error.filename or str(parts.run_dir)
    arguments = record.content["arguments"] or []
    elsewhere = resume_command(parts.run_dir, arguments, "hydra.run.dir=/another/disk/run")
    error.strerror = f"{error.strerror}; {kept}; to resume elsewhere: {elsewhere}"
