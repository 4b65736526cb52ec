"""Which messages the console shows: backlit's own, above a live display; and which of Lightning's it leaves out."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from rich import get_console

from backlit.text import printable

# Hints and warnings that users can do nothing about.
_IGNORED_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 beside torch 2.14
    "The '.*_dataloader' does not have many workers",  # the data lie in memory
    "Total length of `list` across ranks is zero",  # no validation set was asked for
    "The number of training batches .* is smaller than the logging interval",  # such an epoch is recorded at its end
    "You requested to overfit but enabled train dataloader shuffling",  # and it is turned off, as it should
    "The `srun` command is available on your system but is not used",  # README says when it is wanted
    "You're resuming from a checkpoint that ended before the epoch ended",  # `training.loader_order` repeats the order
    "Checkpoint directory .* exists and is not empty",  # that of a run that is resumed
    "The dirpath has changed from",  # ckpt_path of one run, directory of another
)


class ConsoleHandler(logging.Handler):
    """Prints messages above rich's live display, if there is one, and leaves tracebacks to the log file."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; what its message is filled with may come from files, and stays in one line."""
        args = record.args if record.name != "py.warnings" else None  # whose message is its only argument
        if args and isinstance(args, tuple):
            texts = (str, Path, BaseException)
            filled = tuple(printable(str(arg)) if isinstance(arg, texts) else arg for arg in args)
            message = str(record.msg) % filled
        else:
            message = record.getMessage()
        get_console().print(printable(message, keep="\n"), markup=False, emoji=False, highlight=False, soft_wrap=True)


class LogFile(logging.FileHandler):
    """A log file that drops what a full disk does not take; what the run itself writes there ends it, with a reason."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name that logging gives it)
        """Report an error of the logging call, as logging does, but none of the file."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's hints, and send warnings to the log, within this context (or a decorated function)."""
    import lightning.pytorch  # noqa: F401  (its import sets up the loggers)

    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    is_captured = getattr(warnings.showwarning, "__module__", None) == "logging"
    for logger in loggers:
        logger.setLevel(logging.WARNING)
        logger.handlers.clear()  # Hydra's handlers are enough: with its own ones every line comes twice
        logger.propagate = True
    try:
        with warnings.catch_warnings():
            for message in _IGNORED_WARNINGS:
                warnings.filterwarnings("ignore", message)
            if not is_captured:
                logging.captureWarnings(True)  # so that they are in train.log too
            try:
                yield
            finally:
                if not is_captured:
                    logging.captureWarnings(False)
    finally:
        for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.propagate = propagate
