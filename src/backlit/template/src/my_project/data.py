"""Images in folders, one folder a class."""

from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from backlit.arguments import Fraction, PositiveInt, Seed
from backlit.data import InMemoryDataModule, TensorPairs
from PIL import Image
from torch import Tensor


class ImageFolders(InMemoryDataModule):
    """Grey images of any size, scaled to squares. Its arguments are the keys of conf/data/image_folders.yaml.

    Args:
        data_dir: The directory of all data.
        images: The folder in it that has a folder per class.
        classes: The names of the folders, in the order of the network's outputs.
        size: Width and height that images are scaled to, in pixels.
        val_part: The part of the images that is held out for validation.
        test_part: The part of the images that is held out for the test.
        batch_size: Number of images per optimizer step, over all processes together.
        seed: Seeds the split and the order.
    """

    def __init__(
        self,
        *,
        data_dir: str = "data",
        images: str = "digits",
        classes: Sequence[str] = tuple("0123456789"),
        size: PositiveInt = 28,
        val_part: Fraction = 0.15,
        test_part: Fraction = 0.15,
        batch_size: PositiveInt = 32,
        seed: Seed = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        self.directory = Path(data_dir, images)
        self.classes = list(classes)
        self.size = size
        self.val_part = val_part
        self.test_part = test_part
        self.num_classes = len(self.classes)
        self.input_shape = (1, size, size)

    def prepare_data(self) -> None:
        """Read the images before a run begins, so that what is wrong with them is one line.

        Raises:
            ValueError: If a folder is missing or has none.
            OSError: If an image cannot be read.
        """
        for name in self.classes:
            if not self._files(name):
                raise ValueError(f"images must have a folder {name} with images, got {self.directory}")
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Read and split the images."""
        if hasattr(self, "test_set"):
            return  # Lightning calls this before training and before testing
        files = [(file, label) for label, name in enumerate(self.classes) for file in self._files(name)]
        images = torch.stack([self._read(file) for file, _ in files])
        labels = torch.tensor([label for _, label in files])
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(self.seed))
        val, test = int(len(files) * self.val_part), int(len(files) * self.test_part)
        parts = torch.split(order, [len(files) - val - test, val, test])
        self.train_set, self.val_set, self.test_set = (TensorPairs(images[part], labels[part]) for part in parts)

    def prepare_inputs(self, inputs: Tensor, dtype: torch.dtype, *, train: bool = False) -> Tensor:
        """Return uint8 images ``(b, 1, size, size)`` as the network's input, in [-1, 1]; augment here if `train`."""
        return inputs.to(dtype) / 127.5 - 1

    def _files(self, name: str) -> list[Path]:
        paths = (self.directory / name).glob("[!.]*")  # hidden files, which some systems write, are no images
        return sorted(path for path in paths if path.suffix.lower() in (".png", ".jpg", ".jpeg"))

    def _read(self, file: Path) -> Tensor:
        """Return an image as uint8 of shape ``(1, size, size)``."""
        with Image.open(file) as image:
            scaled = image.convert("L").resize((self.size, self.size))
        return torch.from_numpy(numpy.array(scaled)).unsqueeze(0)
