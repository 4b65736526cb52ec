"""MNIST, which comes with this package, and its relatives, which torchvision downloads."""

import functools
import gzip
import hashlib
import logging
import os
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import torch
from filelock import FileLock
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

from backlit.data.memory import InMemoryDataModule, TensorPairs

log = logging.getLogger(__name__)

# sha256 of the four unpacked files; mnist_files/README.md has them too, with the attribution.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def _is_intact(path: Path) -> bool:
    """Tell whether an unpacked MNIST file is there and is the original, byte for byte."""
    try:
        stat = path.stat()
        return _digest(path.resolve(), stat.st_mtime_ns, stat.st_size, stat.st_ino) == MNIST_SHA256[path.name]
    except FileNotFoundError:
        return False


@functools.lru_cache
def _digest(path: Path, *identity: int) -> str:
    """Return a file's sha256; a process asks before it trains and before it tests, a file that stays is read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpacked(name: str, packed_in: list[Path]) -> bytes:
    """Return an MNIST file's bytes from a packed file in one of the folders, else from this package's copy."""
    for folder in packed_in:
        packed = folder / f"{name}.gz"
        if packed.is_file():
            try:
                content = gzip.decompress(packed.read_bytes())
            except (OSError, EOFError):
                content = b""
            if hashlib.sha256(content).hexdigest() == MNIST_SHA256[name]:
                return content
            log.warning("%s is truncated or altered; the copy that comes with backlit is used", packed)
    embedded = resources.files("backlit.data") / "mnist_files" / f"{name}.gz"
    content = gzip.decompress(embedded.read_bytes())
    if hashlib.sha256(content).hexdigest() != MNIST_SHA256[name]:
        raise RuntimeError(f"{embedded} is damaged; install backlit again")
    return content


def unpack_mnist(data_dir: Path) -> Path:
    """Make sure that the four MNIST files lie in a folder, unpacked and intact, and return that folder.

    The files are looked for in ``data_dir/MNIST/raw`` (torchvision's place) and in `data_dir` itself, unpacked
    or as ``.gz``. What is missing, truncated or altered is written to ``data_dir/MNIST/raw``, each file under
    a temporary name first, so that a file under its own name is whole at any moment.

    Raises:
        OSError: If the folder cannot be written and something is missing in it.
    """
    raw = data_dir / "MNIST" / "raw"
    if not raw.exists() and all(_is_intact(data_dir / name) for name in MNIST_SHA256):
        return data_dir
    if all(_is_intact(raw / name) for name in MNIST_SHA256):
        return raw
    raw.mkdir(parents=True, exist_ok=True)
    # Two runs that start at once: the second waits, then finds the files. A killed one leaves the lock free
    # and at most one .partial file, which the next one writes anew.
    with FileLock(raw / ".lock"):
        for name in MNIST_SHA256:
            target = raw / name
            if _is_intact(target):
                continue
            if target.exists():
                log.warning("%s is truncated or altered; the original replaces it", target)
            partial = raw / f"{name}.partial"
            partial.write_bytes(_unpacked(name, [raw, data_dir]))
            os.replace(partial, target)
    return raw


class _MNISTFiles(datasets.MNIST):  # type: ignore[misc]
    """torchvision's MNIST over a folder of unpacked files, wherever it is."""

    def __init__(self, folder: Path, train: bool) -> None:
        self._folder = folder
        super().__init__(str(folder), train=train)

    @property
    def raw_folder(self) -> str:
        return str(self._folder)


class MNISTDataModule(InMemoryDataModule):
    """Images of 28×28 pixels in ten classes: MNIST, Fashion-MNIST, Kuzushiji-MNIST or QMNIST.

    Batches are ``(images, labels)``: float images of shape ``(b, 1, 28, 28)``, ``(pixel / 255 - mean) / std``
    (so [-1, 1] for 0.5 and 0.5), in the module's dtype; labels of shape ``(b,)``, int64, 0 to 9. In memory and on the
    way to the device the images are uint8.

    Args:
        data_dir: Where the files are or are put: ``data_dir/MNIST/raw`` and so on, as torchvision has it.
        dataset: Which of torchvision's classes reads them. MNIST needs no download.
        batch_size: Images an optimizer step sees, over all processes together.
        val_size: How many of the 60,000 training images are held out for validation; 0 trains on all.
        stratified: Hold out the classes in the proportions that they have.
        mean: Subtracted from pixels in [0, 1].
        std: What they are divided by then.
        augmentation: Shifts, turns and zooms of the training images, drawn anew for every batch, the same for all
            its images: degrees of rotation, fraction of translation, lowest and highest zoom, in the order of
            `torchvision.transforms.v2.RandomAffine`; None for none.
        test_noise: Standard deviation of the normal noise that is added to the test images, whose pixels are in [0, 1]
            and stay there (Hendrycks and Dietterich 2019, arXiv:1903.12261, use 0.08 to 0.38).
        eval_batch_size: Images in a validation or test batch, over all processes together.
        passes_per_epoch: How many times one epoch presents every training image.
        num_workers: Processes that prepare batches.
        pin_memory: Copy batches through page-locked memory.
        device_resident: Keep all samples on the device; "auto" does so on a CUDA GPU if they take at most half of what
            is free.
        seed: Seeds the split, the noise and the order.

    Raises:
        ValueError: If an argument is out of its range.
    """

    input_shape = (1, 28, 28)
    num_classes = 10
    preparation = ("mean", "std")

    def __init__(
        self,
        *,
        data_dir: str = "data",
        dataset: Literal["MNIST", "FashionMNIST", "KMNIST", "QMNIST"] = "MNIST",
        batch_size: int = 64,
        val_size: int = 5000,
        stratified: bool = False,
        mean: float = 0.1307,
        std: float = 0.3081,
        augmentation: dict[str, Any] | None = None,
        test_noise: float = 0.0,
        eval_batch_size: int = 1000,
        passes_per_epoch: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
        device_resident: bool | Literal["auto"] = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            device_resident=device_resident,
            seed=seed,
        )
        if not 0 <= val_size < 60_000:
            raise ValueError(f"val_size must be >= 0 and < 60000 (the training images), got {val_size}")
        known = ("MNIST", "FashionMNIST", "KMNIST", "QMNIST")
        if dataset not in known:
            raise ValueError(f"dataset must be one of {', '.join(known)}, got {dataset}")
        if not test_noise >= 0:
            raise ValueError(f"test_noise must be >= 0, got {test_noise}")
        if std <= 0:
            raise ValueError(f"std must be > 0, got {std}")
        self.data_dir = Path(data_dir)
        self.dataset = dataset
        self.val_size = val_size
        self.stratified = stratified
        self.test_noise = test_noise
        self.mean = mean
        self.std = std
        self.augment = None if augmentation is None else v2.RandomAffine(**augmentation)
        self.classes = [str(name) for name in getattr(datasets, dataset).classes]

    def prepare_data(self) -> None:
        """Unpack MNIST, or have torchvision download one of its relatives, where it is not there yet.

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
        except (URLError, RuntimeError, TimeoutError, ConnectionError) as error:
            folder = self.data_dir / self.dataset / "raw"
            names = [Path(url).name for url, _ in self._resources()]
            missing = [n for n in names if not any((folder / p).exists() for p in (n, Path(n).stem))]
            reason = str(error).splitlines()[0].rstrip(":")
            raise RuntimeError(
                f"{self.dataset} is not in {folder} (missing: {', '.join(missing) or 'nothing, but unreadable'}) and"
                f" cannot be downloaded ({reason}); put the files there or use data=mnist, which needs no download"
            ) from error

    def setup(self, stage: str) -> None:
        """Read the files into memory and split them; the official test images are the test set, always."""
        if hasattr(self, "test_set"):
            return  # Lightning asks again before testing
        train, test = self._read(train=True), self._read(train=False)
        images, labels = self._tensors(train)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(labels), generator=generator)
        if self.val_size >= len(labels):
            raise ValueError(f"val_size must be < {len(labels)} (the training images), got {self.val_size}")
        self.val_set = None
        if self.val_size:
            first = _stratified(labels[order], self.val_size) if self.stratified else torch.arange(self.val_size)
            held_out = torch.zeros(len(order), dtype=torch.bool)
            held_out[first] = True
            val, rest = order[held_out], order[~held_out]
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


def _stratified(labels: Tensor, size: int) -> Tensor:
    """Return `size` positions in `labels` of shape ``(n,)``, the first of each class, in the classes' proportions.

    What rounding down leaves goes to the classes with the largest remainders.
    """
    counts = torch.bincount(labels)
    exact = counts * size / len(labels)
    take = exact.floor().to(torch.int64)
    largest = torch.argsort(exact - take, descending=True)[: size - int(take.sum())]
    take[largest] += 1
    return torch.cat([torch.nonzero(labels == c).flatten()[:n] for c, n in enumerate(take.tolist())])
