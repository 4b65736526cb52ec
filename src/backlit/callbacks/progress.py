"""The progress of a run, at the terminal and in the log."""

import logging
from collections.abc import Iterable
from time import monotonic
from typing import Annotated, Any

from annotated_types import Ge, Le
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from backlit.arguments import check_arguments
from backlit.models.classifier import BAR_METRICS, Classifier
from backlit.text import metric_text
from backlit.training import lightning_internals

log = logging.getLogger(__name__)

# More metrics of an epoch do not fit into a line.
_MOST_SHOWN = 6


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar, updated a few times a second rather than at each step; it counts epochs from 1.

    Args:
        refresh_rate: Redraws per second.

    Raises:
        ValueError: If `refresh_rate` is not in [1, 100].
    """

    def __init__(self, refresh_rate: Annotated[int, Ge(1), Le(100)] = 5) -> None:
        check_arguments(ProgressBar.__init__, locals())
        super().__init__(refresh_rate=refresh_rate)
        self._redrawn_at = 0.0
        lightning_internals.name_epochs(self, lambda: _epoch_name(self.trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar if it is time to redraw it or the epoch is over."""
        now = monotonic()
        if now - self._redrawn_at >= 1 / self.refresh_rate or trainer.is_last_batch:
            self._redrawn_at = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show a separate bar for validation, unless it ends before a bar is drawn."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        if sum(batches) > 1:
            super().on_validation_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the metrics that the bar shows, without the name of the logger's directory."""
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown


def _epoch_name(trainer: Trainer) -> str:
    """Return ``epoch 2/10``, counted from 1, of the whole run."""
    total = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
    return f"epoch {trainer.current_epoch + 1}{total}"


def _logged_names(metrics: Iterable[str]) -> list[str]:
    """Return the names that a module of somebody else logs, without a second one of the same metric: the first few."""
    names = list(metrics)
    same = {f"{name}_{when}" for name in names for when in ("step", "epoch")}
    return [name for name in names if name not in same][:_MOST_SHOWN]


class EpochLines(Callback):
    """A line in the log at the end of every epoch: the metrics that the epoch has measured, and how long it took."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin, self._validated = monotonic(), False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has validation metrics; until then there are those of an earlier one."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line."""
        names = BAR_METRICS if isinstance(pl_module, Classifier) else _logged_names(trainer.callback_metrics)
        shown = {name: trainer.callback_metrics.get(name) for name in names if self._validated or name[:3] != "val"}
        values = "  ".join(f"{name} {metric_text(float(value))}" for name, value in shown.items() if value is not None)
        if trainer.is_global_zero:
            log.info(
                "%s  step %d  %s  %.1f s",
                _epoch_name(trainer),
                trainer.global_step,
                values,
                monotonic() - self._begin,
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log network, data and device; start the clock, since a resumed epoch has no `on_train_epoch_start`."""
        self._begin, self._validated = monotonic(), False
        data: Any = getattr(trainer, "datamodule", None)
        sizes = [
            f"{len(part.targets):,} {name}"
            for name in ("train", "val", "test")
            if (part := getattr(data, f"{name}_set", None)) is not None
        ]
        if trainer.is_global_zero:
            log.info(
                "%s; %s; %s on %d x %s",
                _describe(pl_module),
                " + ".join(sizes) + " samples" if sizes else type(data).__name__,
                trainer.precision,
                trainer.world_size,
                pl_module.device,
            )
            batch, accumulated = getattr(data, "batch_size", None), trainer.accumulate_grad_batches
            if isinstance(batch, int) and (trainer.world_size > 1 or accumulated > 1):
                log.info(
                    "a step sees %d samples: %d processes x %d%s",
                    batch * accumulated,
                    trainer.world_size,
                    batch // trainer.world_size,
                    f" x {accumulated} batches" if accumulated > 1 else "",
                )


def _describe(module: LightningModule) -> str:
    """Return a network in a line: as it shows itself, or its class and its size."""
    net = getattr(module, "net", module)
    shown = str(net)
    if "\n" not in shown:
        return shown
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{type(module).__name__}, {count:,} parameters"
