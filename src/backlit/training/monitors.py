"""Metrics that a callback waits for, and that a module does not log: known when the callback has looked for one."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from backlit.errors import ConfigError
from backlit.training.best_checkpoint import BestCheckpoint


@contextlib.contextmanager
def monitors_named(trainer: Trainer, nodes: Mapping[str, Any]) -> Iterator[None]:
    """Raise what Lightning says of a metric that is not measured as a line about the key that names it.

    Args:
        trainer: Has the callbacks.
        nodes: The config's callbacks, plain data.

    Raises:
        ConfigError: With a line for each such metric.
    """
    try:
        yield
    except (RuntimeError, MisconfigurationException) as error:
        measured = sorted(name for name in trainer.callback_metrics if not name.endswith(("_step",)))
        lines = []
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None)
            is_kind = isinstance(callback, EarlyStopping | ModelCheckpoint)
            if is_kind and monitor is not None and monitor not in trainer.callback_metrics and monitor in str(error):
                keys = [f"callbacks.{name}.monitor" for name, node in nodes.items() if _is_of(node, callback)]
                key = "optimized_metric" if isinstance(callback, BestCheckpoint) else " or ".join(keys)
                lines.append(f"{key} must be a metric that the module logs ({', '.join(measured)}), got {monitor!r}")
        if not lines:
            raise
        raise ConfigError(lines) from error


def _is_of(node: Any, callback: EarlyStopping | ModelCheckpoint) -> bool:
    """Return whether a node describes a callback of this class with this monitor."""
    is_class = isinstance(node, dict) and str(node.get("_target_")).endswith(f".{type(callback).__name__}")
    return is_class and node.get("monitor") == callback.monitor
