"""Batches of samples in memory, in an order determined by seed and epoch."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from backlit.data.pairs import TensorPairs
from backlit.data.seeds import mix_seeds


def keep_batch(batch: Any) -> Any:
    """Return a batch unchanged: `TensorPairs.__getitems__` has gathered it, so no collation is needed."""
    return batch


class BatchLoader:
    """Batches of samples in memory, in an order that depends only on seed and epoch, not on the number of processes.

    Each process gets every `world_size`-th sample of a batch: together they see what a single process would. A
    `torch.utils.data.DataLoader` would gather the same batches from lists of indices; here the indices of an epoch are
    one tensor on the device of the samples, so that on a GPU a batch costs the host no work and no copy.

    Its state, the number of batches yielded in the epoch, is part of Lightning's checkpoints: a resumed run sees the
    remaining batches.

    Args:
        data: The samples.
        batch_size: Number of samples per batch, over all processes together; divisible by `world_size`.
        train: Make batches of exactly `batch_size`, except for the last of the epoch. Otherwise make the same number of
            batches in all processes, of sizes as equal as possible.
        shuffle: Use a new order every epoch.
        passes: How often one epoch presents every sample. Each pass is a permutation of its own; a batch may have the
            end of one and the beginning of the next.
        seed: Seeds the order.
        epoch: Returns the number of the epoch; None to count iterations as epochs.
        rank: The number of this process.
        world_size: The number of processes.
        num_workers: The number of worker processes that gather batches.
        pin_memory: Copy batches into page-locked memory.

    Raises:
        ValueError: If `batch_size` is not divisible, or if there are fewer samples than processes.
    """

    def __init__(
        self,
        data: TensorPairs,
        batch_size: int,
        *,
        train: bool = False,
        shuffle: bool = False,
        passes: int = 1,
        seed: int = 0,
        epoch: Callable[[], int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if train and batch_size % world_size:
            raise ValueError(
                f"batch_size must be divisible by the number of processes ({world_size}), got {batch_size}"
            )
        if len(data) < world_size:
            raise ValueError(f"there must be a sample for each of {world_size} processes, got {len(data)}")
        self.data = data
        self.batch_size = batch_size
        self.train = train
        self.shuffle = shuffle
        self.passes = passes
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_workers = num_workers
        # Samples on a GPU cannot be pinned, and without a GPU pinning has no use.
        self.pin_memory = pin_memory and torch.cuda.is_available() and data.inputs.device.type == "cpu"
        self._size = len(data) * passes
        self.epoch = itertools.count().__next__ if epoch is None else epoch
        self._yielded = 0
        self._skip = 0

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches yielded in this epoch."""
        return {"batches": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration after the batches of a state."""
        self._skip = state["batches"] % len(self)

    def __len__(self) -> int:
        """Return the number of batches, the same in all processes."""
        batches = math.ceil(self._size / self.batch_size)
        return batches if self.train else min(batches, self._size // self.world_size)

    def weight(self, batch_idx: int) -> float:
        """Return the weight of this process's mean over its part of a training batch in the mean over all processes.

        It is 1 except for the last batch of an epoch, if that does not divide evenly. Gradients multiplied by it and
        averaged over the processes equal those of the whole batch.
        """
        size = self.samples(batch_idx, batch_idx + 1)
        return len(range(self.rank, size, self.world_size)) * self.world_size / size

    def samples(self, start: int, stop: int) -> int:
        """Return the number of samples in the training batches `start` to `stop` - 1, over all processes together."""
        return min(stop * self.batch_size, self._size) - start * self.batch_size

    def _indices(self, epoch: int) -> list[Tensor]:
        """Return the indices of this process's part of every batch of the epoch."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix_seeds(self.seed, epoch))
            orders = [torch.randperm(len(self.data), generator=generator) for _ in range(self.passes)]
        else:
            orders = [torch.arange(len(self.data))] * self.passes
        order = torch.cat(orders)[self.rank :: self.world_size].to(self.data.targets.device)
        if not self.train:
            return list(order.tensor_split(len(self)))
        parts = list(torch.split(order, self.batch_size // self.world_size))
        # A process without a part gets any sample, to participate in the step; its weight is 0.
        return parts if len(parts) == len(self) else [*parts, order[:1]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs of shape ``(b, ...)`` and targets ``(b,)``."""
        self._yielded, self._skip = self._skip, 0
        epoch = self.epoch()
        parts = self._indices(epoch)[self._yielded :]
        batches: Iterable[tuple[Tensor, Tensor]]
        if self.num_workers:
            batches = DataLoader(
                self.data,
                batch_sampler=parts,  # type: ignore[arg-type]
                collate_fn=keep_batch,
                num_workers=self.num_workers,
                pin_memory=self.pin_memory,
                # Seeds the workers. Without it their seed would be drawn from the generator that dropout draws from,
                # once more in an epoch that is resumed.
                generator=torch.Generator().manual_seed(mix_seeds(self.seed, epoch)),
            )
        else:
            batches = map(self.data.__getitems__, parts)
        for inputs, targets in batches:
            self._yielded += 1
            if self.pin_memory and not self.num_workers:
                yield inputs.pin_memory(), targets.pin_memory()
            else:
                yield inputs, targets
