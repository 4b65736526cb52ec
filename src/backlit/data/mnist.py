"""MNIST, which comes with this package, and Fashion-MNIST, KMNIST and QMNIST, which torchvision downloads."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.error import URLError

import torch
from annotated_types import Ge, Le, Lt
from filelock import FileLock
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

from backlit.arguments import Count, Moderate, PositiveInt, Seed, Text, check_arguments
from backlit.data.memory import InMemoryDataModule
from backlit.data.mnist_unpack import unpack_mnist
from backlit.data.pairs import TensorPairs
from backlit.text import first_line


class MNISTDataModule(InMemoryDataModule):
    """Images of 28×28 pixels in ten classes: MNIST, Fashion-MNIST, Kuzushiji-MNIST or QMNIST.

    Batches are ``(images, labels)``: float images of shape ``(b, 1, 28, 28)``, ``(pixel / 255 - mean) / std``
    ([-1, 1] for 0.5 and 0.5), in the module's dtype; labels of shape ``(b,)``, int64, 0 to 9. The images are stored
    and copied to the device as uint8.

    Args:
        data_dir: The directory for the files, with torchvision's subdirectories, such as ``data_dir/MNIST/raw``.
        dataset: The name of torchvision's data set. MNIST needs no download.
        batch_size: Number of images per optimizer step, over all processes together.
        val_size: Number of the 60,000 training images held out for validation; 0 trains on all.
        mean: Subtracted from pixels in [0, 1].
        std: Divisor of the difference.
        augmentation: Arguments of `torchvision.transforms.v2.RandomAffine`, such as ``degrees``, ``translate``
            (fractions of the size) and ``scale``, for random rotations, translations and scalings of the training
            images; a new one is drawn for every batch and applies to all its images. None for no augmentation.
        test_noise: Standard deviation of the normal noise that is added to the test images, whose pixels are in [0, 1]
            and stay there (Hendrycks and Dietterich 2019, arXiv:1903.12261, use 0.08 to 0.38).
        eval_batch_size: Number of images per validation or test batch, over all processes together.
        passes_per_epoch: How often one epoch presents every training image.
        num_workers: Number of processes that prepare batches.
        pin_memory: Copy batches through page-locked memory.
        device_resident: Keep all samples on the device; "auto" does so on a CUDA GPU if they fit in half of its free
            memory.
        seed: Seeds the split, the noise and the order.

    Raises:
        ValueError: If an argument is out of its range.
    """

    input_shape = (1, 28, 28)
    num_classes = 10
    input_dtype = torch.uint8
    preparation = ("mean", "std")

    def __init__(
        self,
        *,
        data_dir: Text | Path = "data",
        dataset: Literal["MNIST", "FashionMNIST", "KMNIST", "QMNIST"] = "MNIST",
        batch_size: PositiveInt = 64,
        val_size: Annotated[int, Ge(0), Lt(60_000)] = 5000,
        mean: Moderate = 0.1307,
        std: Annotated[float, Ge(1e-6), Le(1e6)] = 0.3081,
        augmentation: dict[str, Any] | None = None,
        test_noise: Annotated[float, Ge(0), Le(1e6)] = 0.0,
        eval_batch_size: PositiveInt = 1000,
        passes_per_epoch: PositiveInt = 1,
        num_workers: Count = 0,
        pin_memory: bool = False,
        device_resident: bool | Literal["auto"] = "auto",
        seed: Seed = 0,
    ) -> None:
        check_arguments(MNISTDataModule.__init__, locals())
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            device_resident=device_resident,
            seed=seed,
        )
        self.sizes = (60_000 - val_size, val_size, 10_000)
        self.data_dir = Path(data_dir)
        self.dataset = dataset
        self.val_size = val_size
        self.test_noise = test_noise
        self.mean = mean
        self.std = std
        self.augment = None if augmentation is None else _affine(augmentation)
        self.has_framed_digits = dataset in ("MNIST", "QMNIST")
        self.class_names = [str(name).split(" - ")[0] for name in getattr(datasets, dataset).classes]  # of "7 - seven"

    def prepare_data(self) -> None:
        """Unpack MNIST, or let torchvision download another data set, if the files are missing.

        Raises:
            RuntimeError: If files are missing and cannot be downloaded.
        """
        if self.dataset == "MNIST":
            unpack_mnist(self.data_dir)
            return
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.data_dir / ".lock"):
                self._read(train=True, download=True)
                self._read(train=False, download=True)
        except (URLError, RuntimeError, TimeoutError, ConnectionError, ValueError, AssertionError, KeyError) as error:
            folder = self.data_dir / self.dataset / "raw"
            names = [Path(url).name for url, _ in self._resources()]
            missing = [n for n in names if not any((folder / p).exists() for p in (n, Path(n).stem))]
            reason = first_line(error).rstrip(":")
            raise RuntimeError(
                f"{self.dataset} is not in {folder} (missing: {', '.join(missing) or 'nothing, but unreadable'}) and"
                f" cannot be downloaded ({reason}); put the files there or use data=mnist, which needs no download"
            ) from error

    def setup(self, stage: str) -> None:
        """Read the files into memory and split them; the official test images are always the test set."""
        if hasattr(self, "test_set"):
            return  # Lightning calls this before training and before testing
        train, test = self._read(train=True), self._read(train=False)
        images, labels = self._tensors(train)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(labels), generator=generator)
        if self.val_size >= len(labels):
            raise ValueError(f"val_size must be < {len(labels)} (the training images), got {self.val_size}")
        self.val_set = None
        if self.val_size:
            val, rest = order[: self.val_size], order[self.val_size :]
            self.val_set = TensorPairs(images.index_select(0, val), labels[val])
            images, labels = images.index_select(0, rest), labels[rest]
        self.train_set = TensorPairs(images, labels)
        images, labels = self._tensors(test)
        if self.test_noise:
            noise = torch.randn(images.shape, generator=generator) * (255 * self.test_noise)
            images = noise.add_(images).round_().clamp_(0, 255).to(torch.uint8)
        self.test_set = TensorPairs(images, labels)

    def prepare_inputs(self, inputs: Tensor, dtype: torch.dtype, *, train: bool = False) -> Tensor:
        """Return ``(pixel / 255 - mean) / std`` for uint8 images of shape ``(b, 1, 28, 28)``; augmented if `train`."""
        if train and self.augment is not None:
            inputs = self.augment(inputs)
        return (inputs.to(dtype) * (1 / (255 * self.std))).sub_(self.mean / self.std)

    def _resources(self) -> list[tuple[str, str]]:
        cls = getattr(datasets, self.dataset)
        found = cls.resources
        return [pair for part in found.values() for pair in part] if isinstance(found, dict) else found

    def _read(self, *, train: bool, download: bool = False) -> Any:
        if self.dataset == "MNIST":
            raw = self.data_dir / "MNIST" / "raw"
            return _MNISTFiles(raw if raw.exists() else self.data_dir, train=train)
        cls = getattr(datasets, self.dataset)
        if self.dataset == "QMNIST":
            # Its test set has 60,000 digits; the first 10,000 are MNIST's test set.
            return cls(str(self.data_dir), what="train" if train else "test10k", download=download)
        return cls(str(self.data_dir), train=train, download=download)

    def _tensors(self, data: Any) -> tuple[Tensor, Tensor]:
        """Return images ``(n, 1, 28, 28)`` uint8 and labels ``(n,)`` int64; QMNIST has eight columns of labels."""
        labels = data.targets if data.targets.ndim == 1 else data.targets[:, 0]
        return data.data.unsqueeze(1), labels.to(torch.int64)


def _affine(augmentation: dict[str, Any]) -> v2.RandomAffine:
    """Return the augmentation with these arguments, tried on an image, since torchvision draws before it checks them.

    Raises:
        ValueError: If it does not take them.
    """
    try:
        augment = v2.RandomAffine(**augmentation)
        with torch.random.fork_rng(devices=[]):
            augment(torch.zeros(1, 28, 28, dtype=torch.uint8))
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"augmentation must be arguments of RandomAffine, got {augmentation}: {error}") from None
    return augment


class _MNISTFiles(datasets.MNIST):  # type: ignore[misc]
    """torchvision's MNIST, read from a folder of any name."""

    def __init__(self, folder: Path, train: bool) -> None:
        self._folder = folder
        super().__init__(str(folder), train=train)

    @property
    def raw_folder(self) -> str:
        return str(self._folder)
