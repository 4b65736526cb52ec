"""Data sets that fit into memory: a batch is one indexed gather, not a loop over samples."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import lightning
import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class TensorPairs(Dataset[tuple[Tensor, Tensor]]):
    """Inputs and targets that lie in memory as two tensors.

    Args:
        inputs: Shape ``(n, ...)``, any dtype.
        targets: Shape ``(n,)``, int64 class indices.
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        assert len(inputs) == len(targets)
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one sample: input of shape ``(...)``, target of shape ``()``."""
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return a whole batch, of indices of shape ``(b,)``: inputs ``(b, ...)``, targets ``(b,)``.

        `torch.utils.data` calls this instead of `__getitem__` where it exists. ``index_select`` is used since
        it is several times faster than ``inputs[index]`` for uint8 on a CPU.
        """
        return self.inputs.index_select(0, indices), self.targets.index_select(0, indices)

    def to(self, device: torch.device) -> "TensorPairs":
        """Return the same samples on a device."""
        return TensorPairs(self.inputs.to(device), self.targets.to(device))


def _as_it_is(batch: Any) -> Any:
    """Collate nothing: `TensorPairs.__getitems__` has returned a batch already."""
    return batch


class BatchLoader:
    """Batches of samples in memory, in an order that depends on seed and epoch alone, not on the number of processes.

    Of every batch each process gets every `world_size`-th sample: together they see what a single process would. A
    `torch.utils.data.DataLoader` would gather the same batches from lists of indices; here the indices of an epoch are
    one tensor, which lies where the samples lie, so that on a GPU a batch costs no work of the host and no copy.

    Its state, the batches given of an epoch, goes into Lightning's checkpoints: a run that goes on sees the rest.

    Args:
        data: The samples.
        batch_size: Samples of a batch, over all processes together; divisible by `world_size`.
        train: Batches of exactly `batch_size`, but for the last of the epoch. Otherwise as many batches, of sizes as
            equal as can be, so that all processes have the same number of them.
        shuffle: A new order every epoch.
        passes: How many times one epoch presents every sample.
        seed: Seeds the order.
        epoch: Tells the epoch; None if each iteration is the next one.
        rank: Which of the processes this is.
        world_size: How many processes there are.
        num_workers: Processes that gather batches.
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
        # What lies on a GPU already cannot be pinned, and without one there is nothing to pin it for.
        self.pin_memory = pin_memory and torch.cuda.is_available() and data.inputs.device.type == "cpu"
        self._size = len(data) * passes
        self.epoch = itertools.count().__next__ if epoch is None else epoch
        self._given = 0
        self._skip = 0

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch have been given."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next epoch begin behind those batches."""
        self._skip = state["batches"] % len(self)

    def __len__(self) -> int:
        """Return the number of batches, the same in all processes."""
        batches = math.ceil(self._size / self.batch_size)
        return batches if self.train else min(batches, self._size // self.world_size)

    def weight(self, batch_idx: int) -> float:
        """Return how much the mean over this process's part of a training batch counts in the mean over all processes.

        That is 1 but for the last batch of an epoch, if it cannot be divided evenly. Gradients that are averaged over
        the processes, each multiplied by it, are those of the whole batch.
        """
        in_all = self.batch_size
        if batch_idx == len(self) - 1:
            in_all = self._size - batch_idx * self.batch_size
        return len(range(self.rank, in_all, self.world_size)) * self.world_size / in_all

    def _indices(self, epoch: int) -> list[Tensor]:
        """Return the indices of this process's part of every batch of the epoch."""
        if self.shuffle:
            # Unlike a sum, this gives no epoch of one seed the order of an epoch of another one.
            mixed = numpy.random.SeedSequence([self.seed, epoch]).generate_state(1, numpy.uint64)
            order = torch.randperm(self._size, generator=torch.Generator().manual_seed(int(mixed[0])))
        else:
            order = torch.arange(self._size)
        order = (order % len(self.data))[self.rank :: self.world_size].to(self.data.targets.device)
        if not self.train:
            return list(order.tensor_split(len(self)))
        parts = list(torch.split(order, self.batch_size // self.world_size))
        # No part is left for this process: any sample, so that it takes part in the step; its weight is 0.
        return parts if len(parts) == len(self) else [*parts, order[:1]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs of shape ``(b, ...)`` and targets ``(b,)``."""
        self._given, self._skip = self._skip, 0
        parts = self._indices(self.epoch())[self._given :]
        batches: Iterable[tuple[Tensor, Tensor]]
        if self.num_workers:
            batches = DataLoader(
                self.data,
                batch_sampler=parts,  # type: ignore[arg-type]
                collate_fn=_as_it_is,
                num_workers=self.num_workers,
                pin_memory=self.pin_memory,
            )
        else:
            batches = map(self.data.__getitems__, parts)
        for inputs, targets in batches:
            self._given += 1
            if self.pin_memory and not self.num_workers:
                yield inputs.pin_memory(), targets.pin_memory()
            else:
                yield inputs, targets


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
        device_resident: Keep all samples on the device, so that a batch is gathered there and nothing is copied;
            "auto" does so on a CUDA GPU of whose free memory they take at most half.
        seed: Seeds the order of the training samples.

    Raises:
        ValueError: If one of them is out of its range.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    # The arguments that say how inputs are prepared: a network that has learned with some is judged with the same.
    preparation: tuple[str, ...] = ()
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
        device_resident: bool | Literal["auto"] = "auto",
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
        if device_resident and num_workers:
            if device_resident is True:
                raise ValueError("device_resident must be false or auto with num_workers > 0, got true")
            device_resident = False
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.passes_per_epoch = passes_per_epoch
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.device_resident = device_resident
        self.seed = seed

    def _loader(self, data: TensorPairs, *, train: bool) -> BatchLoader:
        processes: dict[str, Any] = {}
        overfits = False
        if self.trainer is not None:
            sampled = self.trainer.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
            processes = {"world_size": sampled["num_replicas"], "rank": sampled["rank"]}
            processes["epoch"] = lambda: self.trainer.current_epoch
            overfits = bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]
            data = self._on_device(data, self.trainer.strategy.root_device)
        return BatchLoader(
            data,
            self.batch_size if train else self.eval_batch_size,
            train=train,
            # A full batch has no order; without the shuffle its rows keep their places.
            shuffle=train and self.batch_size != len(data) and not overfits,
            passes=self.passes_per_epoch if train else 1,
            seed=self.seed,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            **processes,
        )

    def _on_device(self, data: TensorPairs, device: torch.device) -> TensorPairs:
        """Return the samples where batches are to be gathered."""
        if self.device_resident == "auto":
            size = sum(t.numel() * t.element_size() for t in (data.inputs, data.targets))
            resides = device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] / 2
        else:
            resides = self.device_resident
        return data.to(device) if resides else data

    def train_dataloader(self) -> BatchLoader:
        """Return shuffled batches of ``(inputs, targets)``; the last may be smaller."""
        return self._loader(self.train_set, train=True)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Return batches in order, or ``[]`` (no validation) where there is no validation set."""
        return [] if self.val_set is None else self._loader(self.val_set, train=False)

    def test_dataloader(self) -> BatchLoader:
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
