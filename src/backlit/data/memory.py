"""Data sets that fit into memory: a batch is one indexed gather, not a loop over samples."""

from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class TensorPairs(Dataset[tuple[Tensor, Tensor]]):
    """Inputs and targets that lie in memory as two tensors.

    Args:
        inputs: Shape ``(n, ...)``, any dtype.
        targets: Shape ``(n,)``, int64 class indices.
        passes: How many times one epoch presents every sample; the length is ``n * passes``.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, passes: int = 1) -> None:
        assert len(inputs) == len(targets)
        self.inputs = inputs
        self.targets = targets
        self.passes = passes

    def __len__(self) -> int:
        return len(self.targets) * self.passes

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one sample: input of shape ``(...)``, target of shape ``()``."""
        index %= len(self.targets)
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return a whole batch: inputs of shape ``(b, ...)``, targets of shape ``(b,)``.

        `torch.utils.data` calls this instead of `__getitem__` where it exists. ``index_select`` is used since
        it is several times faster than ``inputs[index]`` for uint8 on a CPU.
        """
        index = torch.tensor(indices)
        if self.passes > 1:
            index %= len(self.targets)
        return self.inputs.index_select(0, index), self.targets.index_select(0, index)


def _as_it_is(batch: Any) -> Any:
    """Collate nothing: `TensorPairs.__getitems__` has returned a batch already."""
    return batch


def _copy(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return a batch that a network may change in place: it is the whole data set."""
    inputs, targets = batch
    return inputs.clone(), targets.clone()


class InMemoryDataModule(lightning.LightningDataModule):
    """What the data modules here have in common: three `TensorPairs` and one way to make a loader.

    A subclass fills `train_set`, `val_set` (may stay None) and `test_set` in `setup`.

    Args:
        batch_size: Samples an optimizer step sees, over all processes together.
        eval_batch_size: The same for validation and testing; it changes speed and memory only.
        passes_per_epoch: How many times one training epoch presents every sample. Small data sets want
            more than one: an epoch has a fixed cost.
        num_workers: Processes that prepare batches. The data lie in memory, so 0 is fastest as a rule.
        pin_memory: Copy batches through page-locked memory, which a GPU reads faster.
        seed: Seeds the order of the training samples.

    Raises:
        ValueError: If one of them is out of its range.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    train_set: TensorPairs
    val_set: TensorPairs | None = None
    test_set: TensorPairs

    def __init__(
        self,
        *,
        batch_size: int,
        eval_batch_size: int = 1000,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("passes_per_epoch", passes_per_epoch, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be >= {least}, got {value}")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.passes_per_epoch = passes_per_epoch
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.seed = seed

    def _loader(self, data: TensorPairs, *, train: bool) -> DataLoader[Any]:
        size = self.batch_size if train else self.eval_batch_size
        world_size = self.trainer.world_size if self.trainer else 1
        if train and size % world_size:
            raise ValueError(f"batch_size must be divisible by the number of processes ({world_size}), got {size}")
        how: dict[str, Any] = {
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            "persistent_workers": self.num_workers > 0,
            "generator": torch.Generator().manual_seed(self.seed) if train else None,
        }
        # A full batch has no order; without the shuffle its rows keep their places.
        is_full = train and size == len(data.targets)
        sampler: DistributedSampler[Any] | None = None
        if is_full and world_size == 1:
            batches = [(data.inputs, data.targets)] * data.passes
            return DataLoader(batches, batch_size=None, collate_fn=_copy, **how)  # type: ignore[arg-type]
        if is_full:
            # Lightning's own sampler always shuffles a training set: a full batch would not be all points once.
            rank = self.trainer.global_rank if self.trainer else 0
            sampler = DistributedSampler(data, world_size, rank, shuffle=False)
        return DataLoader(
            data,
            batch_size=max(1, size // world_size),
            shuffle=train and not is_full,
            sampler=sampler,
            collate_fn=_as_it_is,
            **how,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches of ``(inputs, targets)``; the last may be smaller."""
        return self._loader(self.train_set, train=True)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return batches in order, or ``[]`` (no validation) where there is no validation set."""
        return [] if self.val_set is None else self._loader(self.val_set, train=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return batches in order."""
        return self._loader(self.test_set, train=False)

    def prepare_inputs(self, inputs: Tensor, dtype: torch.dtype, *, train: bool = False) -> Tensor:
        """Turn stored inputs of shape ``(b, ...)`` into what the network reads, in `dtype`, on their device."""
        return inputs.to(dtype)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Prepare the inputs on the device, where it is cheap and where fewer bytes had to be moved to."""
        assert self.trainer is not None
        inputs, targets = batch
        dtype = self.trainer.lightning_module.dtype
        assert isinstance(dtype, torch.dtype)
        return self.prepare_inputs(inputs, dtype, train=self.trainer.training), targets
