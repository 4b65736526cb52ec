"""Images in folders, one folder per class."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy
import torch
from annotated_types import Ge, Gt, Le, Len, Lt
from torch import Tensor
from torchvision.transforms import v2

from backlit.arguments import Count, FractionBelow1, Moderate, PositiveInt, Seed, Text, check_arguments
from backlit.data.images import image_suffixes
from backlit.data.pairs import TensorPairs
from backlit.data.pictures import PictureReader, picture_files, read_pictures
from backlit.data.user_files import Part, UserFilesDataModule

Pixels = Annotated[int, Ge(1), Le(10_000)]


class ImageFolderDataModule(UserFilesDataModule):
    """Images in folders, as torchvision's `ImageFolder`: ``data_dir/train/cat/1.png``, or ``data_dir/cat/1.png``.

    ``data_dir/val`` and ``data_dir/test`` are used where they exist; otherwise a random part of each class is held out
    of the training images. A class is a folder; its name is the class's, and the classes are in the order of their
    names.

    Batches are ``(images, labels)``: float images of shape ``(b, c, h, w)``, ``(pixel / 255 - mean) / std``, in the
    module's dtype; labels of shape ``(b,)``, int64. All images are kept in memory, scaled, as uint8.

    Args:
        data_dir: The directory.
        image_size: Height and width of an image in pixels, one number for both or two. A picture is scaled until it
            covers these, and cut at its centre.
        channels: 3 for RGB, 1 for grey.
        augment: Cut each training image at random after a border of an eighth was added (its reflection), and flip half
            of them from left to right, anew each time.
        val_fraction: Fraction of each class that is held out for validation without a folder for it; 0 for none.
        test_fraction: The same for the test.
        mean: Of each channel, of pixels in [0, 1]; None for that of the training images.
        std: The standard deviation; None for that of the training images.
        batch_size: Number of images per optimizer step, over all processes together.
        eval_batch_size: Number of images per validation or test batch, over all processes together.
        passes_per_epoch: How often one epoch presents every training image.
        num_workers: Number of processes that prepare batches.
        pin_memory: Copy batches through page-locked memory.
        device_resident: Keep all samples on the device; "auto" does so on a CUDA GPU if they fit in half of its free
            memory.
        seed: Seeds what is held out, and the order.

    Raises:
        ValueError: If an argument is out of its range.
    """

    input_dtype = torch.uint8

    def __init__(
        self,
        *,
        data_dir: Text | Path,
        image_size: Pixels | Annotated[Sequence[Pixels], Len(2, 2)] = 64,
        channels: Literal[1, 3] = 3,
        augment: bool = False,
        val_fraction: FractionBelow1 = 0.15,
        test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.15,
        mean: Sequence[Moderate] | None = None,
        std: Sequence[Annotated[float, Ge(1e-6), Le(1e6)]] | None = None,
        batch_size: PositiveInt = 64,
        eval_batch_size: PositiveInt = 1000,
        passes_per_epoch: PositiveInt = 1,
        num_workers: Count = 0,
        pin_memory: bool = False,
        device_resident: bool | Literal["auto"] = "auto",
        seed: Seed = 0,
    ) -> None:
        check_arguments(ImageFolderDataModule.__init__, locals())
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != channels:
                raise ValueError(f"{name} must be one number for each of {channels} channels, got {list(values)}")
        super().__init__(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            mean=mean,
            std=std,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            passes_per_epoch=passes_per_epoch,
            num_workers=num_workers,
            pin_memory=pin_memory,
            device_resident=device_resident,
            seed=seed,
        )
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.data_dir = Path(data_dir)
        self.input_shape: tuple[int, int, int] = (channels, height, width)
        self.augment = None
        if augment:
            cut = v2.RandomCrop((height, width), padding=[width // 8, height // 8], padding_mode="reflect")
            self.augment = v2.Compose([cut, v2.RandomHorizontalFlip()])

    def find(self) -> None:
        """Set the classes to the names of the folders.

        Raises:
            ValueError: If there is no folder for each of two classes at least, or no image in one.
        """
        self._files: dict[Part, list[tuple[str, int]]] = {}
        directories = self._directories()
        if not self.class_names:
            self.class_names = tuple(_folders(directories["train"]))
        suffixes, where = image_suffixes(), f"data_dir must have a folder of images per class, got {self.data_dir}"
        if len(self.class_names) < 2:
            found = f", which has {len(self.class_names)}" if self.class_names else ", which has none"
            raise ValueError(f"{where}{found}: {directories['train']}/<class>/*.png")
        for part, directory in directories.items():
            if strange := sorted(set(_folders(directory)) - set(self.class_names)):
                known = ", ".join(self.class_names[:10])
                raise ValueError(f"data_dir must have no class in {directory} but {known}, got {strange[0]}")
            files = self._files[part] = picture_files(directory, self.class_names, suffixes)
            there = {label for _, label in files}
            empty = [name for index, name in enumerate(self.class_names) if index not in there]
            if not files or (part == "train" and empty and self._trained is None):
                raise ValueError(f"{where}, where {directory / empty[0]} has none ({' '.join(sorted(suffixes))})")
        self.num_classes = len(self.class_names)
        self.val_size = None if "val" in self._files or self.val_fraction else 0

    def _directories(self) -> dict[Part, Path]:
        """Return the directory of each part that has one."""
        if not self.data_dir.is_dir():
            raise ValueError(f"data_dir must be a directory with a folder of images per class, got {self.data_dir}")
        inside: dict[Part, Path] = {part: self.data_dir / part for part in ("train", "val", "test")}
        if not inside["train"].is_dir():
            return {"train": self.data_dir}
        return {part: path for part, path in inside.items() if path.is_dir()}

    @property
    def has_own_test(self) -> bool:
        """Whether there is a folder for the test."""
        return "test" in self._files

    def read_parts(self) -> dict[Part, TensorPairs]:
        """Return the images of each part.

        Raises:
            ValueError: If an image cannot be read, or if all together are too large.
        """
        files, parts = self._files, dict(self._files)
        missing: list[Part] = [part for part in ("val", "test") if part not in files]
        if missing:
            chosen = self.split(torch.tensor([label for _, label in files["train"]]), missing)
            parts |= {part: [files["train"][index] for index in indices] for part, indices in chosen.items()}
        count = sum(map(len, parts.values()))
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if (size := count * int(numpy.prod(self.input_shape))) > memory / 2:
            rule = f"smaller: {count:,} images take {size / 1e9:.1f} GB, half of this machine's memory is"
            raise ValueError(f"image_size must be {rule} {memory / 2e9:.1f} GB, got {list(self.input_shape[1:])}")
        try:
            return {
                part: TensorPairs(
                    read_pictures([file for file, _ in found], self.input_shape),
                    torch.tensor([label for _, label in found]),
                )
                for part, found in parts.items()
            }
        except ValueError as error:
            raise ValueError(f"data_dir must have images that can be read: {error}") from None

    def measure(self, inputs: Tensor) -> tuple[list[float], list[float]]:
        """Return mean and deviation (1 for 0) of each channel of images ``(n, c, h, w)``, of pixels in [0, 1]."""
        # Of counts, so that they do not depend on how many threads add up.
        values = numpy.arange(256) / 255
        mean, std = [], []
        for channel in range(inputs.shape[1]):
            count = numpy.zeros(256)
            for chunk in torch.split(inputs[:, channel], 1000):
                count += numpy.bincount(chunk.numpy().ravel(), minlength=256)
            average = float(count @ values / count.sum())
            mean.append(average)
            std.append(float(count @ (values - average) ** 2 / count.sum()) ** 0.5 or 1.0)
        return mean, std

    def prepare_inputs(self, inputs: Tensor, dtype: torch.dtype, *, train: bool = False) -> Tensor:
        """Return ``(pixel / 255 - mean) / std`` for uint8 images of shape ``(b, c, h, w)``; augmented if `train`."""
        if train and self.augment is not None:
            inputs = torch.stack([self.augment(image) for image in inputs])
        mean, std = (torch.tensor(values, dtype=dtype)[:, None, None] for values in (self.mean, self.std))
        factor, shift = 1 / (255 * std), mean / std
        return inputs.to(dtype) * factor.to(inputs.device) - shift.to(inputs.device)

    def reader(self, batch_size: int) -> PictureReader:
        """Return what reads the input files of a prediction."""
        return PictureReader(self.input_shape, batch_size)


def _folders(directory: Path) -> list[str]:
    """Return the names of the folders in a directory, sorted; hidden ones are left out."""
    return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and not entry.name.startswith("."))
