"""Points in a square, classified by a line."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy
import torch
from annotated_types import Ge, Le, Len
from numpy.typing import NDArray

from backlit.arguments import Count, Moderate, NonNegative, PositiveInt, SampleCount, Seed, check_arguments
from backlit.data.memory import InMemoryDataModule
from backlit.data.pairs import TensorPairs

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]


class PointsDataModule(InMemoryDataModule):
    """Points uniform in [-1, 1]², class 1 where ``weights · point + offset > 0``.

    Batches are ``(points, labels)``: points of shape ``(b, 2)``, stored as float64 and converted to the network's
    dtype; labels of shape ``(b,)``, int64, 0 or 1.

    The training points are the first that NumPy's legacy generator draws for `seed`. Validation points, test points,
    flips and noise have streams of their own, so that the size of one set does not change another; no point is in two
    sets, since two of these float64 numbers are never equal in practice.

    Args:
        train_size: Number of training points.
        val_size: Number of validation points; 0 for no validation.
        test_size: Number of test points.
        batch_size: Number of points per optimizer step, over all processes together; None for all training points.
        weights: Normal vector ``(w0, w1)`` of the line.
        offset: Offset ``b`` of the line ``w0 x + w1 y + b = 0``.
        margin: Least distance of a point from the line, in the unit of the coordinates.
        label_noise: Fraction of the training labels that are flipped, in [0, 0.5]; validation and test
            labels are unchanged.
        test_noise: Standard deviation of the normal noise that moves the test points, in the unit of the coordinates;
            labels are unchanged.
        eval_batch_size: Number of points per validation or test batch, over all processes together.
        passes_per_epoch: How often one epoch presents every training point.
        num_workers: Number of processes that prepare batches.
        pin_memory: Copy batches through page-locked memory.
        device_resident: Keep all samples on the device; "auto" does so on a CUDA GPU if they fit in half of its free
            memory.
        seed: Seeds the points, the flips, the noise and the order.

    Raises:
        ValueError: If an argument is out of its range.
    """

    input_shape = (2,)
    num_classes = 2

    def __init__(
        self,
        *,
        train_size: SampleCount = 100,
        val_size: Annotated[int, Ge(0), Le(10_000_000)] = 1000,
        test_size: SampleCount = 10_000,
        batch_size: PositiveInt | None = None,
        weights: Annotated[Sequence[Moderate], Len(2, 2)] = (1.0, 1.0),
        offset: Moderate = 0.0,
        margin: NonNegative = 0.0,
        label_noise: Annotated[float, Ge(0), Le(0.5)] = 0.0,
        test_noise: Annotated[float, Ge(0), Le(1e6)] = 0.0,
        eval_batch_size: PositiveInt = 10_000,
        passes_per_epoch: PositiveInt = 200,
        num_workers: Count = 0,
        pin_memory: bool = False,
        device_resident: bool | Literal["auto"] = "auto",
        seed: Seed = 0,
    ) -> None:
        check_arguments(PointsDataModule.__init__, locals())
        super().__init__(
            batch_size=train_size if batch_size is None else batch_size,
            eval_batch_size=eval_batch_size,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            device_resident=device_resident,
            seed=seed,
        )
        if not any(weights):
            raise ValueError(f"weights must be two numbers, not both 0, got {list(weights)}")
        self.sizes: tuple[int, int, int] = (train_size, val_size, test_size)
        self.val_size = val_size
        self.weights = (float(weights[0]), float(weights[1]))
        self.offset = float(offset)
        self.margin = margin
        self.label_noise = label_noise
        self.test_noise = test_noise
        farthest = (sum(abs(w) for w in weights) + abs(offset)) / numpy.hypot(*self.weights)
        # With a larger margin nearly every drawn point would be rejected.
        largest = 0.95 * farthest
        if not 0 <= margin <= largest:
            raise ValueError(
                f"margin must be >= 0 and <= {largest:.4g} (the farthest corner is at {farthest:.4g}), got {margin}"
            )

    def setup(self, stage: str) -> None:
        """Draw the three sets, each from a stream of its own."""
        train_size, val_size, test_size = self.sizes
        # `RandomState(seed)` is the reference program's stream; a list of numbers seeds another one.
        val, test, flips, noise = (numpy.random.RandomState([self.seed, number]) for number in range(1, 5))
        points, labels = self._draw(numpy.random.RandomState(self.seed), train_size)
        labels = numpy.where(flips.rand(train_size) < self.label_noise, 1 - labels, labels)
        self.train_set = TensorPairs(*_tensors(points, labels))
        self.val_set = TensorPairs(*_tensors(*self._draw(val, val_size))) if val_size else None
        points, labels = self._draw(test, test_size)
        self.test_set = TensorPairs(*_tensors(points + self.test_noise * noise.randn(test_size, 2), labels))

    def _draw(self, generator: numpy.random.RandomState, size: int) -> tuple[Floats, Integers]:
        """Return `size` points ``(size, 2)`` outside the margin and their labels ``(size,)``."""
        kept = numpy.empty((0, 2))
        while len(kept) < size:
            # Without a margin every point is kept, so that exactly `size` are drawn: the reference program's stream.
            points = generator.rand(max(size - len(kept), 10_000 if self.margin else 0), 2) * 2 - 1
            distance = numpy.abs(points @ self.weights + self.offset) / numpy.hypot(*self.weights)
            kept = numpy.concatenate([kept, points[distance >= self.margin]])[:size]
        return kept, (kept @ self.weights + self.offset > 0).astype(numpy.int64)


def _tensors(points: Floats, labels: Integers) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(points), torch.from_numpy(labels)
