"""Reads the tables of a prediction, a batch at a time, as the training's table was read."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from backlit.data.input_files import printable_name
from backlit.data.table_file import Header, TableFile, numbers, open_table
from backlit.errors import ConfigError


class TableReader:
    """Reads the rows of tables; columns are matched by the names in the header.

    A table without a header has the columns of the training's table in its order, or the features alone.

    Args:
        columns: The columns of the training's table.
        features: Those that the network reads.
        label: The one with the classes, which a table may lack.
        batch_size: Number of rows per batch.
        header: Whether the first line names the columns; "auto" if none of its cells is a number.
    """

    reads_images = False
    noun = "rows"
    suffixes = (".csv", ".tsv")
    inverted = framed = skipped = 0

    def __init__(
        self, columns: Sequence[str], features: Sequence[str], label: str, batch_size: int, *, header: Header = "auto"
    ) -> None:
        self.columns = list(columns)
        self.features = list(features)
        self.label = label
        self.batch_size = batch_size
        self.header = header

    def batches(self, files: Sequence[str]) -> Iterator[tuple[list[dict[str, str]], Tensor]]:
        """Yield batches: for each row its place and, where there is one, its label; features ``(b, k)``, float64.

        Raises:
            ConfigError: If a file cannot be read, or does not fit the run.
        """
        for file in files:
            try:
                with open_table(file, self.header) as table:
                    yield from self._batches(table)
            except ValueError as error:
                raise ConfigError([str(error)]) from None

    def _batches(self, table: TableFile) -> Iterator[tuple[list[dict[str, str]], Tensor]]:
        names = self._names(table)
        places = [names.index(name) for name in self.features]
        label_place = names.index(self.label) if self.label in names else None
        name = printable_name(table.name)
        while chunk := list(itertools.islice(table.rows, self.batch_size)):
            rows = [{"source": f"{name}:{line}"} for line, _ in chunk]
            if label_place is not None:
                for row, (_, cells) in zip(rows, chunk, strict=True):
                    row["true_class"] = cells[label_place]
            values = [numbers(table, line, cells, places, self.features) for line, cells in chunk]
            yield rows, torch.tensor(values, dtype=torch.float64)

    def _names(self, table: TableFile) -> list[str]:
        """Return the names of a table's columns.

        Raises:
            ValueError: If one is missing.
        """
        wanted = ", ".join(self.features)
        if table.columns is None:
            for names in (self.columns, self.features):
                if table.width == len(names):
                    return names
            rule = f"{len(self.features)} columns ({wanted}), or a header"
            raise ValueError(f"{table.name} must have {rule}, got {table.width} without a header")
        if missing := [name for name in self.features if name not in table.columns]:
            raise ValueError(
                f"{table.name} must have a column {missing[0]} (of {wanted}), got {', '.join(table.columns)}"
            )
        return table.columns
