"""``best.ckpt``: the checkpoint of the validation that `backlit.runs.run.best_row` calls the best."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from backlit.models.metric_mode import Mode
from backlit.runs.run import best_row


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, with the definition of the best that ``metrics.json``, reports and sweeps have.

    A class of its own, it may stand beside a user's ModelCheckpoint of the same metric.

    Args:
        directory: Where ``best.ckpt`` goes.
        metric: The metric to compare by.
        mode: Whether its ``min`` or its ``max`` is the best.
        is_early: Save after the validation, not at the end of its epoch, when an average of the weights may change.
    """

    def __init__(self, directory: Path, metric: str, mode: Mode, *, is_early: bool = False) -> None:
        super().__init__(
            directory,
            "best",
            monitor=metric,
            mode=mode,
            save_on_train_epoch_end=False if is_early else None,
            enable_version_counter=False,
        )
        self.metric = metric
        self._kept: list[dict[str, float]] = []  # the metrics of best.ckpt, once there is one

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Return whether the latest validation is the best so far; the first process decides, as it has the records."""
        latest = {name: value.item() for name, value in trainer.callback_metrics.items() if value.numel() == 1}
        is_best = current is not None and best_row([*self._kept, latest], self.metric, self.mode) is latest
        is_best = trainer.strategy.broadcast(is_best)
        if is_best:
            self._kept = [latest]
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state, and the metrics of ``best.ckpt``."""
        return super().state_dict() | {"kept": self._kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned; of a stranger's, what are numbers."""
        super().load_state_dict(state_dict)
        kept = state_dict.get("kept")
        rows = [row for row in kept if isinstance(row, dict)] if isinstance(kept, list) else []
        self._kept = [{name: value for name, value in row.items() if isinstance(value, int | float)} for row in rows]
