"""Predictions for samples from files, batch by batch."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

from lightning import LightningModule
from torch import Tensor

from backlit.data.readers import Reader, Rows
from backlit.models.probabilities import class_probabilities, predict_probabilities
from backlit.models.protocol import class_names
from backlit.runs.files import json_text

# How many samples are kept, for a table and a picture.
MOST_IMAGES, MOST_POINTS = 100, 10_000


@dataclass
class Predictions:
    """The number of samples of each class, and the first samples.

    Args:
        counts: Number of samples by class name.
        rows: One per sample, with its class.
        inputs: The same samples as batches ``(b, ...)``, as the data set stores them.
        confidences: The probability of the class of each sample.
        known: Number of all samples whose true class the input has.
        right: Number of those whose class is that.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rows: Rows = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    known: int = 0
    right: int = 0


class Predictor:
    """Predicts the classes of stored inputs.

    Args:
        model: The network.
        datamodule: Prepares the inputs, and names the classes if they have names.
        batch_size: Number of samples per forward pass.
    """

    def __init__(self, model: LightningModule, datamodule: object, batch_size: int) -> None:
        self.model = model
        self.datamodule = datamodule
        self.batch_size = batch_size
        self.names = class_names(datamodule)

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Return the probability of each class, shape ``(n, num_classes)``, for stored inputs ``(n, ...)``."""
        found = predict_probabilities(self.model, self.datamodule, inputs, batch_size=self.batch_size)
        return class_probabilities(found)

    def predict_files(
        self, reader: Reader, files: Sequence[str], output: TextIO | None, format: Literal["csv", "jsonl"]
    ) -> Predictions:
        """Predict the samples of files, write the predictions to `output`, and return the counts and the first samples.

        Args:
            reader: Reads the files.
            files: Their names.
            output: Receives one line per sample, and a header in CSV; None for no output.
            format: Of the output.

        Raises:
            ConfigError: If a file does not fit the reader.
            OSError: If the output cannot be written.
        """
        predictions = Predictions()
        most = MOST_IMAGES if reader.reads_images else MOST_POINTS
        for rows, inputs in reader.batches(files):
            probabilities = self.probabilities(inputs)
            for row, values in zip(rows, class_columns(probabilities, self.names), strict=True):
                row |= values
                if truth := row.get("true_class"):
                    predictions.known += 1
                    predictions.right += truth == str(row["class"])
            if output and format == "jsonl":
                output.writelines(json_text(_written(row)) + "\n" for row in rows)
            elif output:
                header = [] if predictions.counts else [rows[0]]
                lines = [*header, *(_written(row).values() for row in rows)]
                csv.writer(output, lineterminator="\n").writerows(lines)
            if (room := most - len(predictions.rows)) > 0:
                predictions.rows += rows[:room]
                predictions.inputs.append(inputs[:room])
                predictions.confidences += probabilities[:room].amax(1).tolist()
            predictions.counts.update(str(row["class"]) for row in rows)
        if output:
            output.flush()
        return predictions


def _written(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it is written: probabilities have six digits."""
    return {name: float(f"{value:.6g}") if "probability" in name else value for name, value in row.items()}


def class_columns(probabilities: Tensor, names: Sequence[str]) -> Rows:
    """Return the class and the probability of each sample, and the second class if there are more than two.

    Args:
        probabilities: Shape ``(b, num_classes)``.
        names: Those of the classes; empty if they have only numbers.

    Returns:
        With names that are no numbers, ``label`` is the number.
    """
    numbers = range(probabilities.shape[1])
    shown: list[Any] = [*names] if len(names) == len(numbers) else [*numbers]
    has_label = list(map(str, shown)) != list(map(str, numbers))
    best = probabilities.topk(2)
    columns: Rows = []
    for values, (first, second) in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        high, low = values
        row = ({"label": first} if has_label else {}) | {"class": shown[first]}
        if len(shown) == 2:
            columns.append(row | {f"probability_of_{shown[1]}": high if first == 1 else low})
        else:
            columns.append(row | {"probability": high, "runner_up": shown[second], "runner_up_probability": low})
    return columns
