"""Shape and dtype of a sample as a run's data set stores it."""

import math
from dataclasses import dataclass

import torch

from backlit.errors import ConfigError
from backlit.load import LoadedRun
from backlit.models.protocol import stored_dtype, stored_shape
from backlit.runs.read_record import read_record


@dataclass(frozen=True)
class StoredInputs:
    """What the data declare, or else what the run has recorded.

    Args:
        shape: Of a sample.
        dtype: Of a sample; None if it is unknown, in runs of earlier versions.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None

    @classmethod
    def of_run(cls, run: LoadedRun) -> "StoredInputs":
        """Return those of a run.

        Raises:
            ConfigError: If the shape is unknown.
        """
        try:
            recorded = read_record(run.directory / "run.json").get("inputs") or {}
        except (FileNotFoundError, ValueError):
            recorded = {}
        shape = stored_shape(run.datamodule) or tuple(recorded.get("shape", ()))
        if not shape:
            name = type(run.datamodule).__name__
            raise ConfigError([f"{name} needs input_shape, the shape of a sample: input_shape = (1, 28, 28)"])
        dtype = stored_dtype(run.datamodule) or getattr(torch, str(recorded.get("dtype")), None)
        return cls(shape, dtype)

    @property
    def size(self) -> int:
        """Return the number of values of a sample."""
        return math.prod(self.shape)
