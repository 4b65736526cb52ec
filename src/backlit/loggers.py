"""Where numbers go: the metrics file that every run writes, and TensorBoard."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities.rank_zero import rank_zero_only

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
        self._columns_saved = 0
        self._rows_saved = 0

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
        """Add a row."""
        row = {"step": step} | metrics
        if "epoch" in row:
            row["epoch"] = int(metrics["epoch"])
        self._columns += [name for name in row if name not in self._columns]
        self.rows.append(row)

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that are not yet in the file."""
        new = self.rows[self._rows_saved :]
        if new and len(self._columns) > self._columns_saved:
            with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self.rows)
        elif new:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerows(new)
        self._columns_saved, self._rows_saved = len(self._columns), len(self.rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is not yet written."""
        self.save()


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Lightning's, with one event file for the whole run and no ``hparams.yaml`` beside it.

    Args:
        save_dir: The run directory; the events go to its ``tensorboard/``.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="tensorboard", default_hp_metric=False)

    @rank_zero_only
    def save(self) -> None:
        """Write what is buffered."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is buffered; closing here, after training, would open a second file for testing."""
        self.save()

    @rank_zero_only
    def close(self) -> None:
        """End the event file."""
        if self._experiment is not None:
            self._experiment.close()
