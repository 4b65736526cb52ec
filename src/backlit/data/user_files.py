"""The base of the data modules that read files of the user's own."""

import logging
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from backlit.data.memory import InMemoryDataModule
from backlit.data.mnist import MNISTDataModule
from backlit.data.pairs import TensorPairs
from backlit.data.split import split_by_class

log = logging.getLogger(__name__)

Part = Literal["train", "val", "test"]


class UserFilesDataModule(InMemoryDataModule):
    """Data whose classes, means and deviations are found in files of the user's own.

    What is found is the module's state, which Lightning writes into every checkpoint: `backlit.load_run` restores it,
    so that predictions and exports need no file of the training, and other data are read and scaled like those. A run
    resumes only with the samples that it began with.

    A subclass defines `find`, `read_parts` and `measure`.

    Args:
        val_fraction: Fraction of each class that is held out for validation if there are no samples for it; 0 for no
            validation.
        test_fraction: The same for the test.
        mean: Subtracted from each channel or column; None for that of the training samples.
        std: Divisor of the difference; None for that of the training samples.
        more: Arguments of `InMemoryDataModule`.

    Raises:
        ValueError: If the fractions leave nothing to train on, or an argument is out of its range.
    """

    def __init__(
        self,
        *,
        val_fraction: float,
        test_fraction: float,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        if val_fraction + test_fraction >= 1:
            raise ValueError(f"val_fraction must be < {1 - test_fraction:.10g} (1 - test_fraction), got {val_fraction}")
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.mean = None if mean is None else tuple(map(float, mean))
        self.std = None if std is None else tuple(map(float, std))
        self.class_names: tuple[str, ...] = ()
        self.val_size: int | None = None  # 0 if there is no validation
        # The state of a checkpoint; None while there is none.
        self._trained: Mapping[str, Any] | None = None
        self._digest: int | None = None

    def find(self) -> None:
        """Set `class_names`, `num_classes`, `input_shape` and `val_size` to what the files have.

        Raises:
            ValueError: If the files are missing, or cannot be used.
        """
        raise NotImplementedError

    def read_parts(self) -> dict[Part, TensorPairs]:
        """Return the samples of each part; of ``train`` and ``test`` always.

        Raises:
            ValueError: If a sample cannot be read.
        """
        raise NotImplementedError

    def measure(self, inputs: Tensor) -> tuple[list[float], list[float]]:
        """Return mean and deviation (1 for 0) of each channel or column of stored inputs ``(n, ...)``."""
        raise NotImplementedError

    def reader(self, batch_size: int) -> Any:
        """Return what reads the input files of a prediction as those of the training were read."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        """Read the files, so that what is wrong with them is reported before a run begins."""
        self._read()

    def setup(self, stage: str) -> None:
        """Read the files in each process, if `prepare_data` has not."""
        self._read()

    def _read(self) -> None:
        if hasattr(self, "train_set"):
            return
        self.find()
        parts = self.read_parts()
        mean, std = self.measure(parts["train"].inputs) if None in (self.mean, self.std) else ([], [])
        self.mean, self.std = self.mean or tuple(mean), self.std or tuple(std)
        self._digest = 0
        for samples in (parts["train"], *([parts["val"]] if "val" in parts else [])):
            for tensor in (samples.inputs, samples.targets):
                self._digest = zlib.crc32(tensor.numpy().data, self._digest)
        if self._trained is not None and self._trained["digest"] != self._digest and not self.has_own_test:
            log.warning("the data have changed since the training: samples of its training may be in this test set")
        self.val_set, self.test_set, self.train_set = parts.get("val"), parts["test"], parts["train"]

    @property
    def has_own_test(self) -> bool:
        """Whether there are samples for the test, so that none are held out."""
        raise NotImplementedError

    def split(self, labels: Tensor, missing: Sequence[Part]) -> dict[Part, Tensor]:
        """Return the indices of the samples of each part, of which the `missing` ones are held out at random.

        Args:
            labels: Those of the samples that there are for training, shape ``(n,)``.
            missing: ``val``, ``test``, or both.

        Raises:
            ValueError: If a part gets no sample.
        """
        fractions: dict[Part, float] = {"test": self.test_fraction, "val": self.val_fraction}
        wanted: list[Part] = [name for name in fractions if name in missing and fractions[name] > 0]
        rest, *held_out = split_by_class(labels, [fractions[name] for name in wanted], self.seed)
        parts = dict(zip(wanted, held_out, strict=True))
        for name, indices in parts.items():
            if not len(indices):
                rule = f"large enough for a sample of a class ({len(labels)} samples)"
                raise ValueError(f"{name}_fraction must be {rule}, got {fractions[name]}")
        return {"train": rest, **parts}

    def state_dict(self) -> dict[str, Any]:
        """Return what was found in the training's files, as plain data."""
        if self._trained is not None:
            return dict(self._trained)
        if self._digest is None or self.mean is None or self.std is None:
            return {}
        names = {"class_names": list(self.class_names), "mean": list(self.mean), "std": list(self.std)}
        return {**names, "digest": self._digest, **self.more_state()}

    def more_state(self) -> dict[str, Any]:
        """Return what else a checkpoint holds of the files."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what the training has found; if the files are read already, compare.

        Raises:
            ValueError: If the samples are not those of the training, or if the state is not one of this module.
        """
        check_state(state_dict)
        if self._digest is not None:
            own = self.state_dict()
            for key in own.keys() - {"mean", "std"}:
                if own[key] != state_dict.get(key):
                    what = {"digest": "samples", "class_names": "classes"}.get(key, key)
                    raise ValueError(f"the files must be those that the run began with, but have other {what}")
        self.mean = self.mean if self._digest is None and self.mean else tuple(state_dict["mean"])
        self.std = self.std if self._digest is None and self.std else tuple(state_dict["std"])
        self.class_names = tuple(state_dict["class_names"])
        self.num_classes = len(self.class_names)
        self._trained = state_dict


def as_shown(datamodule: object, images: Tensor) -> Tensor:
    """Return images ``(n, c, h, w)`` as they are drawn: grey ones as RGB, but MNIST's, of which one channel is ink."""
    is_photo = not isinstance(datamodule, MNISTDataModule) and images.shape[1] == 1
    return images.expand(-1, 3, -1, -1) if is_photo else images


def check_state(state: Any) -> None:
    """Raise `ValueError` if something is no state of a `UserFilesDataModule`: a checkpoint may be a stranger's."""
    lists = {"class_names": str, "mean": float, "std": float}
    is_state = isinstance(state, Mapping) and isinstance(state.get("digest"), int)
    for key, kind in lists.items():
        values = state.get(key) if is_state else None
        is_state = isinstance(values, list) and bool(values) and all(isinstance(value, kind) for value in values)
    if is_state:
        names, mean, std = (state[key] for key in lists)
        is_state = len(set(names)) == len(names) >= 2 and len(mean) == len(std)
        is_state = is_state and all(map(math.isfinite, mean)) and all(0 < value < math.inf for value in std)
    if not is_state:
        raise ValueError("the checkpoint must have the classes, means and deviations of its data")
