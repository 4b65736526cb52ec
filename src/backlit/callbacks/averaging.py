"""Stochastic weight averaging, of the weights that are validated, saved and tested."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from backlit.arguments import PartOf1, PositiveInt, check_arguments
from backlit.errors import ConfigError


class EpochAveraging(WeightAveraging):
    """Averages the weights that the last epochs end with; stochastic weight averaging (arXiv:1803.05407).

    From the end of the first of these epochs on, the average is what is validated, saved and tested, while training
    continues with its own weights. Lightning's StochasticWeightAveraging copies its average into the network when
    training has ended: no validation measures it, and no checkpoint's ``state_dict`` is it. The learning rate is that
    of the optimizer and the scheduler. Buffers, like the statistics of BatchNorm, are averaged, too.

    Args:
        swa_epoch_start: The first epoch that is averaged, counted from 1, or the fraction of ``trainer.max_epochs``
            before it.

    Raises:
        ValueError: If it is neither an integer >= 1 nor in (0, 1].
    """

    def __init__(self, swa_epoch_start: PositiveInt | PartOf1 = 0.8) -> None:
        check_arguments(EpochAveraging.__init__, locals())
        super().__init__(avg_fn=self._mean)
        self.swa_epoch_start = swa_epoch_start
        self._averaged = 0  # epochs
        self._ends_epoch = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average.

        Raises:
            ConfigError: If a fraction of an unlimited number of epochs is asked for.
        """
        if isinstance(self.swa_epoch_start, float) and trainer.max_epochs in (None, -1):
            rule = "a number of epochs with trainer.max_epochs=-1"
            raise ConfigError([f"swa_epoch_start must be {rule}, got {self.swa_epoch_start}"])
        super().setup(trainer, pl_module, stage)

    def _first_epoch(self, trainer: Trainer) -> int:
        """Return the first epoch that is averaged, counted from 0."""
        start = self.swa_epoch_start
        if isinstance(start, int):
            return start - 1
        assert trainer.max_epochs is not None
        return min(int(start * trainer.max_epochs), trainer.max_epochs - 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights to the average if an epoch ends; before the first of them has, let it be the weights."""
        is_late = trainer.current_epoch >= self._first_epoch(trainer)
        self._averaged = self._averaged if is_late else 0  # a run that is made longer begins later
        self._ends_epoch = is_late and trainer.is_last_batch
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._averaged += self._ends_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether a step changes the average; an epoch's last step does so before the validation."""
        return step_idx is not None and (self._ends_epoch or not self._averaged)

    def _mean(self, average: Tensor, weights: Tensor, updates: Tensor) -> Tensor:
        """Return the mean over one epoch more, of any shape."""
        return average + (weights - average) / (self._averaged + 1) if self._averaged else weights

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state, and how many epochs are averaged."""
        return super().state_dict() | {"averaged": self._averaged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._averaged = int(state_dict["averaged"])
