"""Why a training has ended before the limits of its Trainer: a callback has asked for it."""

from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from backlit.text import metric_text


def find_stop(trainer: Trainer) -> dict[str, Any] | None:
    """Return when and why a callback has ended a training; None if it has come to its end.

    Returns:
        ``epoch`` and ``step`` count what was done; ``by`` is the callback's class, ``reason`` a phrase.
    """
    is_whole = trainer.current_epoch == trainer.max_epochs and trainer.is_last_batch
    if not trainer.should_stop or is_whole or trainer.global_step == trainer.max_steps:
        return None
    by, reason = find_reason(trainer) or ("", "a callback has set trainer.should_stop")
    return {"epoch": trainer.current_epoch, "step": trainer.global_step, "by": by, "reason": reason}


def find_reason(trainer: Trainer) -> tuple[str, str] | None:
    """Return which callback ends a training, and why, as far as Lightning's callbacks say it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            return name, _early_stopping_reason(callback)
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            return name, f"{left + callback.time_elapsed():g} s of training have passed"
    return None


def _early_stopping_reason(callback: EarlyStopping) -> str:
    monitor, best = callback.monitor, metric_text(float(callback.best_score))
    checks = f"{callback.wait_count} check{'s' if callback.wait_count > 1 else ''}"
    reasons = {
        EarlyStoppingReason.PATIENCE_EXHAUSTED: f"has not improved in {checks} "
        f"(patience={callback.patience}); the best is {best}",
        EarlyStoppingReason.STOPPING_THRESHOLD: f"is better than stopping_threshold={callback.stopping_threshold}",
        EarlyStoppingReason.DIVERGENCE_THRESHOLD: f"is worse than divergence_threshold={callback.divergence_threshold}",
        EarlyStoppingReason.NON_FINITE_METRIC: "is not finite",
    }
    return f"{monitor} {reasons[callback.stopping_reason]}"
