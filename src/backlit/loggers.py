"""Where numbers go: the metrics file that every run writes, and TensorBoard."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from backlit.run import whole_file


class MetricsCSV(loggers.Logger):
    """``metrics.csv``: one row a record, columns ``step`` (optimizer steps taken), ``epoch`` and one a metric.

    A row is added in one write; the file is written anew, whole, when a metric appears for the first time and
    the header grows. Lightning's CSVLogger is not used since it deletes what an earlier part of a run wrote.

    Args:
        path: The file; it appears with the first record.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._columns = ["step", "epoch"]

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """Return nothing: a run has one such file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: ``.hydra/config.yaml`` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row and write it."""
        row = {"step": step} | metrics
        self.rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new or len(self.rows) == 1:
            self._columns += new
            with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self.rows)
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Lightning's, with one event file for the whole run and no ``hparams.yaml`` beside it.

    Args:
        save_dir: The run directory; the events go to its ``tensorboard/``.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="tensorboard", default_hp_metric=False, flush_secs=5)

    @rank_zero_only
    def save(self) -> None:
        """Wait for nothing: Lightning calls this at every record, and the writer flushes every five seconds."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is buffered; closing here, after training, would open a second file for testing."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def close(self) -> None:
        """End the event file."""
        if self._experiment is not None:
            self._experiment.close()
