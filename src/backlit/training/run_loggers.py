"""The loggers of a run: each has a session from the run's first step to its end, and none can fail the run."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import Logger

from backlit.errors import ConfigError
from backlit.loggers import TensorBoardLogger
from backlit.loggers.session import begin_session, end_session, hyperparameters, server_run
from backlit.runs.files import is_disk_error
from backlit.runs.record import RunRecord
from backlit.text import first_line
from backlit.training.build import RunParts

log = logging.getLogger(__name__)

# What backlit and Lightning call of a logger.
_METHODS = (
    *("log_metrics", "log_hyperparams", "log_graph", "log_image"),
    *("save", "flush", "finalize", "after_save_checkpoint"),
)


def begin_sessions(parts: RunParts, record: RunRecord | None) -> None:
    """Begin the session of each logger of a run, and record what their servers call it.

    Args:
        parts: What the run is made of.
        record: Its record; None in all processes but the first, where loggers do nothing.

    Raises:
        ConfigError: If a logger cannot begin, because of a name that its server does not take, for instance.
    """
    listed, ids = hyperparameters(parts.config), dict[str, str]()
    for name, logger in parts.loggers.items():
        if logger not in parts.trainer.loggers:
            continue  # a fast_dev_run has none
        try:
            begin_session(logger, listed)
        except Exception as error:  # whatever a server's client raises
            if is_disk_error(error):
                raise
            raise ConfigError([f"logger.{name} cannot begin: {first_line(error)}"]) from error
        parts.sessions[name] = logger
        if isinstance(logger, TensorBoardLogger):
            _repeat_last_record(parts, logger)
        elif record is not None:
            if (server_id := server_run(logger)) is not None:
                ids[name] = server_id
            _keep_from_failing(parts.trainer, name, logger)
    if record is not None and ids:
        record.add(loggers=dict(record.content.get("loggers", {})) | ids)


def end_sessions(parts: RunParts, status: str, metrics: Mapping[str, float]) -> None:
    """End the sessions of a run's loggers, in the first process.

    Args:
        parts: What the run is made of.
        status: ``completed``, ``failed`` or ``interrupted``.
        metrics: Its final metrics, if it has completed. Those that are not what was recorded last are added.
    """
    rows = [] if parts.metrics_csv is None else parts.metrics_csv.rows
    recorded = {name: value for row in rows for name, value in row.items()}
    missing = {name: value for name, value in metrics.items() if recorded.get(name) != value}
    for name, logger in parts.sessions.items():
        if isinstance(logger, TensorBoardLogger):
            logger.end_session(status)
        elif logger in parts.trainer.loggers:  # it has not failed
            if missing:
                logger.log_metrics(missing, step=parts.trainer.global_step)
            _attempt(parts.trainer, name, logger, partial(end_session, logger, status))
    parts.sessions.clear()


def _repeat_last_record(parts: RunParts, logger: TensorBoardLogger) -> None:
    """Record again what belongs to the step of the checkpoint, which TensorBoard has forgotten."""
    for row in parts.metrics_csv.rows_before if parts.metrics_csv else ():
        if row["step"] == parts.steps_done:
            logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=parts.steps_done)


def _keep_from_failing(trainer: Trainer, name: str, logger: Logger) -> None:
    """Let a logger that raises an error, as its server is gone, be left out of the run from then on."""
    for method_name in _METHODS:
        method = getattr(logger, method_name, None)
        if callable(method):
            setattr(logger, method_name, _guarded(trainer, name, logger, method))


def _guarded(trainer: Trainer, name: str, logger: Logger, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        return _attempt(trainer, name, logger, partial(method, *arguments, **more))

    return call


def _attempt(trainer: Trainer, name: str, logger: Logger, work: Callable[[], Any]) -> Any:
    """Return what `work` returns; if it raises, warn, and give the logger nothing more: its client waits for minutes.

    What was learned is worth more than its curves elsewhere; `metrics.csv` has them.
    """
    if logger not in trainer.loggers:
        return None
    try:
        return work()
    except Exception as error:  # whatever a server's client raises
        trainer.loggers = [other for other in trainer.loggers if other is not logger]
        log.warning("logger.%s has failed and gets nothing more of this run: %s", name, first_line(error))
        log.debug("traceback", exc_info=error)
        return None
