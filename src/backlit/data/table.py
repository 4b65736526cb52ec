"""A table in a text file: columns of numbers, and one that names the class."""

import array
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy
import torch
from annotated_types import Gt, Lt
from torch import Tensor

from backlit.arguments import Count, FractionBelow1, PositiveInt, Seed, Text, check_arguments
from backlit.data.pairs import TensorPairs
from backlit.data.table_advice import advise_on_features, advise_on_label, features_to_type
from backlit.data.table_file import Header, NotANumberError, is_number, numbers, open_table
from backlit.data.table_reader import TableReader
from backlit.data.user_files import Part, UserFilesDataModule, check_state


class TableDataModule(UserFilesDataModule):
    """The rows of a table in a text file (CSV): some columns are features, numbers; one column names the class.

    Batches are ``(features, labels)``: features of shape ``(b, k)``, ``(feature - mean) / std`` in the network's dtype,
    stored as float64 as the table has them; labels of shape ``(b,)``, int64: places in `class_names`, which are sorted,
    as numbers if all are.

    Args:
        file: The table: lines of cells that are separated by commas, semicolons or tabs, in UTF-8.
        test_file: A table with the same columns for the test; None to hold out a part of `file`.
        label: The name of the column with the classes; None for the last one. Without a header, columns are named by
            their number, from 1.
        features: The names of the columns that the network reads; None for all but the label.
        header: Whether the first line names the columns; "auto" if none of its cells is a number.
        val_fraction: Fraction of each class that is held out for validation; 0 for none.
        test_fraction: Fraction of each class that is held out for the test without a `test_file`.
        mean: Of each feature; None for that of the training rows.
        std: The standard deviation; None for that of the training rows, or 1 for a column of equal numbers.
        batch_size: Number of rows per optimizer step, over all processes together.
        eval_batch_size: Number of rows per validation or test batch, over all processes together.
        passes_per_epoch: How often one epoch presents every training row.
        num_workers: Number of processes that prepare batches.
        pin_memory: Copy batches through page-locked memory.
        device_resident: Keep all rows on the device; "auto" does so on a CUDA GPU if they fit in half of its free
            memory.
        seed: Seeds what is held out, and the order.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        file: Text | Path,
        test_file: Text | Path | None = None,
        label: Text | int | None = None,
        features: Sequence[Text | int] | None = None,
        header: Header = "auto",
        val_fraction: FractionBelow1 = 0.15,
        test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.15,
        mean: Sequence[float] | None = None,
        std: Sequence[Annotated[float, Gt(0)]] | None = None,
        batch_size: PositiveInt = 32,
        eval_batch_size: PositiveInt = 10_000,
        passes_per_epoch: PositiveInt = 10,
        num_workers: Count = 0,
        pin_memory: bool = False,
        device_resident: bool | Literal["auto"] = "auto",
        seed: Seed = 0,
    ) -> None:
        check_arguments(TableDataModule.__init__, locals())
        super().__init__(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            mean=mean,
            std=std,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            device_resident=device_resident,
            seed=seed,
        )
        self.file = Path(file)
        self.test_file = None if test_file is None else Path(test_file)
        self.label = None if label is None else str(label)
        self.features = None if features is None else tuple(map(str, features))
        self.header = header
        self.columns: tuple[str, ...] = ()  # of the training's table, in its order
        self._tables: dict[Part, tuple[Tensor, list[str]]] = {}

    def find(self) -> None:
        """Read the tables.

        Raises:
            ValueError: If one cannot be read, lacks a column or a number, or if the labels do not name classes.
        """
        is_label_typed = self.label is not None
        try:
            self._tables = {"train": self._read_table(self.file, is_first=True)}
        except NotANumberError as error:
            assert self.label is not None
            advice = (
                ""
                if "; " in str(error)
                else advise_on_features(self.file, self.header, error.column, self.label, is_label_typed=is_label_typed)
            )
            raise ValueError(f"{error}{advice}") from None
        if self.test_file is not None:
            self._tables["test"] = self._read_table(self.test_file, is_first=False)
        labels = self._tables["train"][1]
        if not self.class_names:
            self.class_names = self._find_classes(labels)
        for file, (_, found) in zip((self.file, self.test_file), self._tables.values(), strict=False):
            if strange := sorted(set(found) - set(self.class_names)):
                known = ", ".join(self.class_names[:10])
                raise ValueError(
                    f"file must have no label in column {self.label} but {known}, got {strange[0]!r} in {file}"
                )
        assert self.features is not None
        self.num_classes = len(self.class_names)
        self.input_shape = (len(self.features),)
        self.val_size = None if self.val_fraction else 0

    def _read_table(self, file: Path, *, is_first: bool) -> tuple[Tensor, list[str]]:
        """Return the features of a table, float64 ``(n, k)``, and the labels."""
        with open_table(file, self.header) as table:
            names = table.columns or [str(number) for number in range(1, table.width + 1)]
            if is_first and not self.columns:
                self._choose_columns(names)
            assert self.label is not None
            assert self.features is not None
            if missing := [name for name in (*self.features, self.label) if name not in names]:
                raise ValueError(f"file must have a column {missing[0]}, but {file} has {', '.join(names)}")
            places = [names.index(name) for name in self.features]
            label_place = names.index(self.label)
            values, labels = array.array("d"), []
            for line, cells in table.rows:
                values.extend(numbers(table, line, cells, places, self.features))
                if not cells[label_place]:
                    raise ValueError(f"{file}, line {line}, must have a label in column {self.label}, got none")
                labels.append(cells[label_place])
        if not labels:
            raise ValueError(f"file must have rows, and {file} has none")
        return torch.from_numpy(numpy.array(values)).reshape(len(labels), len(places)), labels

    def _find_classes(self, labels: list[str]) -> tuple[str, ...]:
        """Return the different labels, sorted, as numbers if all are.

        Raises:
            ValueError: If there is only one, or so many that they are rather a quantity.
        """
        assert self.label is not None
        names = sorted(set(labels))
        if all(map(is_number, names)):
            names.sort(key=float)
        what = f"column {self.label} of {self.file} has {len(names):,} different texts in {len(labels):,} rows"
        if len(names) < 2:
            what = f"column {self.label} of {self.file} has {names[0]!r} in all {len(labels):,} rows"
        if 2 <= len(names) <= len(labels) / 2:
            return tuple(names)
        rule = "at least two classes" if len(names) < 2 else "classes, each with some rows"
        advice = advise_on_label(self.file, self.header, self.label)
        raise ValueError(f"label must be a column of {rule}, and {what}{advice}")

    def _choose_columns(self, names: list[str]) -> None:
        """Set the label and the features to columns that the training's table has."""
        self.label = names[-1] if self.label is None else self.label
        if len(names) == 1:
            rule = "must have columns that are separated by commas, semicolons or tabs"
            raise ValueError(f"{self.file} {rule}, got one: {names[0][:60]!r}")
        if self.features is None:
            self.features = tuple(name for name in names if name != self.label)
            if "" in names:
                named = [name for name in self.features if name]
                rule = "features must be given for a table with a column that has no name"
                why = "as that of the row numbers which pandas writes"
                raise ValueError(f"{rule}, {why}, got {self.file}: {features_to_type(named)}")
        for key, given in (("label", [self.label]), ("features", self.features)):
            for name in given:
                if name not in names:
                    close = difflib.get_close_matches(name, names, 1)
                    hint = f"; did you mean {close[0]}?" if close else f": {', '.join(names)}"
                    raise ValueError(f"{key} must be a column of {self.file}, got {name}{hint}")
        if self.label in self.features or len(set(self.features)) < len(self.features) or not self.features:
            rule = "different columns beside the label, one at least"
            raise ValueError(f"features must be {rule} ({self.label}), got {', '.join(self.features)}")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != len(self.features):
                raise ValueError(f"{key} must be a number for each of {len(self.features)} features, got {len(values)}")
        self.columns = tuple(names)

    @property
    def has_own_test(self) -> bool:
        """Whether there is a table for the test."""
        return self.test_file is not None

    def read_parts(self) -> dict[Part, TensorPairs]:
        """Return the rows of each part.

        Raises:
            ValueError: If a part gets no row.
        """
        places = {name: place for place, name in enumerate(self.class_names)}
        parts: dict[Part, TensorPairs] = {
            part: TensorPairs(values, torch.tensor([places[label] for label in labels]))
            for part, (values, labels) in self._tables.items()
        }
        self._tables = {}
        whole = parts["train"]
        chosen = self.split(whole.targets, ["val"] if self.has_own_test else ["val", "test"])
        return parts | {part: TensorPairs(whole.inputs[rows], whole.targets[rows]) for part, rows in chosen.items()}

    def measure(self, inputs: Tensor) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of each column of features ``(n, k)``; 1 if its numbers are equal."""
        # NumPy adds in one order, whatever the number of threads.
        values = inputs.numpy()
        std = numpy.where(values.max(0) > values.min(0), values.std(0), 1.0)
        return values.mean(0).tolist(), std.tolist()

    def prepare_inputs(self, inputs: Tensor, dtype: torch.dtype, *, train: bool = False) -> Tensor:
        """Return ``(feature - mean) / std`` for features of shape ``(b, k)``, computed in the features' dtype."""
        mean, std = (torch.tensor(values, dtype=inputs.dtype).to(inputs.device) for values in (self.mean, self.std))
        return ((inputs - mean) / std).to(dtype)

    def more_state(self) -> dict[str, Any]:
        """Return the names of the columns."""
        assert self.features is not None
        return {"columns": list(self.columns), "features": list(self.features), "label": self.label}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the training has found; if the table is read already, compare.

        Raises:
            ValueError: If the rows are not those of the training, or if the state is not one of this module.
        """
        check_state(state_dict)
        names: list[list[str]] = [state_dict.get(key, []) for key in ("columns", "features")]
        label = state_dict.get("label")
        is_state = isinstance(label, str) and all(isinstance(part, list) and part for part in names)
        if not is_state or not all(isinstance(name, str) for part in names for name in part):
            raise ValueError("the checkpoint must have the columns of its data")
        super().load_state_dict(state_dict)
        self.columns, self.features = map(tuple, names)
        self.label, self.input_shape = label, (len(names[1]),)
        if len(self.features) != len(state_dict["mean"]):
            raise ValueError("the checkpoint must have a mean for each column of its data")

    def reader(self, batch_size: int) -> TableReader:
        """Return what reads the input files of a prediction."""
        assert self.features is not None
        assert self.label is not None
        return TableReader(self.columns, self.features, self.label, batch_size, header=self.header)
