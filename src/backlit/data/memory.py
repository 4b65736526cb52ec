"""Data sets that fit into memory: a batch is one indexed gather, not a loop over samples."""

from collections.abc import Sequence
from typing import Any, Literal

import lightning
import torch
from torch import Tensor

from backlit.arguments import Count, PositiveInt, Seed, check_arguments
from backlit.data.loader import BatchLoader
from backlit.data.pairs import TensorPairs


class InMemoryDataModule(lightning.LightningDataModule):
    """The base of the data modules here: three `TensorPairs` and one way to make a loader.

    A subclass sets `train_set`, `val_set` (which may stay None) and `test_set` in `setup`.

    Args:
        batch_size: Number of samples per optimizer step, over all processes together.
        eval_batch_size: Number of samples per validation or test batch, over all processes together; affects speed and
            memory only.
        passes_per_epoch: How often one training epoch presents every sample. Small data sets need more than one pass:
            an epoch has a fixed cost.
        num_workers: Number of processes that prepare batches. The data are in memory, so 0 is usually fastest.
        pin_memory: Copy batches through page-locked memory, which a GPU reads faster.
        device_resident: Keep all samples on the device, so that batches are gathered there without a copy; "auto" does
            so on a CUDA GPU if they fit in half of its free memory.
        seed: Seeds the order of the training samples.

    Raises:
        ValueError: If an argument is out of its range.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    # Of a stored sample, if it is not known before `setup`: a run records it.
    input_dtype: torch.dtype | None = None
    # One text per class; None for their numbers.
    class_names: Sequence[str] | None = None
    # The arguments that define how inputs are prepared; a network is always evaluated with those of its training.
    preparation: tuple[str, ...] = ()
    # Whether the images are digits, framed as in MNIST: `backlit-predict` then frames photos alike.
    has_framed_digits: bool = False
    # Samples for training, validation and test, where the arguments alone determine them.
    sizes: tuple[int, int, int] | None = None
    train_set: TensorPairs
    val_set: TensorPairs | None = None
    test_set: TensorPairs

    def __init__(
        self,
        *,
        batch_size: PositiveInt,
        eval_batch_size: PositiveInt = 1000,
        passes_per_epoch: PositiveInt = 1,
        num_workers: Count = 0,
        pin_memory: bool = False,
        device_resident: bool | Literal["auto"] = "auto",
        seed: Seed = 0,
    ) -> None:
        check_arguments(InMemoryDataModule.__init__, locals())
        super().__init__()
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
            # The order within a full batch does not matter; without shuffling, it is the order of the samples.
            shuffle=train and self.batch_size != len(data) and not overfits,
            passes=self.passes_per_epoch if train else 1,
            seed=self.seed,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            **processes,
        )

    def _on_device(self, data: TensorPairs, device: torch.device) -> TensorPairs:
        """Return the samples on the device where batches are gathered."""
        if self.device_resident == "auto":
            size = sum(t.numel() * t.element_size() for t in (data.inputs, data.targets))
            resides = device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] / 2
        else:
            resides = self.device_resident
        return data.to(device) if resides else data

    def train_dataloader(self) -> BatchLoader:
        """Return shuffled batches of ``(inputs, targets)``; the last batch may be smaller."""
        return self._loader(self.train_set, train=True)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Return batches in order, or ``[]`` (no validation) if there is no validation set."""
        return [] if self.val_set is None else self._loader(self.val_set, train=False)

    def test_dataloader(self) -> BatchLoader:
        """Return batches in order."""
        return self._loader(self.test_set, train=False)

    def predict_dataloader(self) -> BatchLoader:
        """Return the batches of the test set, for `Trainer.predict`."""
        return self.test_dataloader()

    def prepare_inputs(self, inputs: Tensor, dtype: torch.dtype, *, train: bool = False) -> Tensor:
        """Return stored inputs of shape ``(b, ...)`` as the network's input, in `dtype`, on their device."""
        return inputs.to(dtype)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Prepare the inputs on the device, where it is fast; stored inputs have fewer bytes to copy."""
        assert self.trainer is not None
        inputs, targets = batch
        dtype = self.trainer.lightning_module.dtype
        assert isinstance(dtype, torch.dtype)
        return self.prepare_inputs(inputs, dtype, train=self.trainer.training), targets
