"""``metrics.csv``: the records of a run."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from backlit.runs.files import atomic_write
from backlit.runs.run import read_rows


class MetricsCSV(loggers.Logger):
    """Writes ``metrics.csv``: a row a record; columns ``step`` (optimizer steps taken), ``epoch`` and one a metric.

    A row is added in one write; the whole file is replaced when a metric appears for the first time and the header
    grows. Lightning's CSVLogger is not used since it deletes what an earlier attempt of a run has written.

    Args:
        path: The file; it appears with the first record.
        steps_done: Optimizer steps of the checkpoint that the run resumes from: the records up to it are kept, later
            ones removed. None for a fresh run: earlier records are replaced.
        rows_done: Number of records when that checkpoint was written, where it is known: a later one of its last step
            belongs to the test, or to the next step of a module that counts steps from 0.
    """

    def __init__(self, path: Path, steps_done: int | None = None, rows_done: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.rows_before: list[dict[str, Any]] = []
        if steps_done is not None:
            rows = read_rows(path)
            first_dropped = (steps_done, len(rows) if rows_done is None else rows_done)
            self.rows_before = [row for i, row in enumerate(rows) if (row["step"], i) < first_dropped]
        self.rows: list[dict[str, Any]] = list(self.rows_before)
        self._columns = list(dict.fromkeys(["step", "epoch", *(name for row in self.rows for name in row)]))
        self._has_header = False

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """Return an empty text: a run has one such file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: ``.hydra/config.yaml`` has the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row and write it."""
        row = {"step": step} | metrics
        self.rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new or not self._has_header:
            self._columns += new
            self._has_header = True
            with atomic_write(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self.rows)
        else:
            size = self.path.stat().st_size
            try:
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, self._columns).writerow(row)
            except OSError:
                os.truncate(self.path, size)  # half a number on a full disk is another number
                raise
