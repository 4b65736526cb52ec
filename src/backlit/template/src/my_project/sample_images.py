"""Writes images to begin with: ``python -m my_project.sample_images`` writes 2,000 digits of MNIST to data/digits."""

import tempfile
from pathlib import Path

from backlit.data import MNISTDataModule
from PIL import Image


def write_digits(directory: Path, per_class: int = 200) -> None:
    """Write ``<directory>/<digit>/<number>.png``, whole or not at all; backlit has the images."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        mnist = MNISTDataModule(data_dir=temporary, val_size=0)
        mnist.prepare_data()
        mnist.setup("fit")
        images, labels = mnist.train_set.inputs, mnist.train_set.targets
        folders = Path(temporary, "digits")
        for digit in range(10):
            (folders / str(digit)).mkdir(parents=True)
            for number, image in enumerate(images[labels == digit][:per_class]):
                Image.fromarray(image[0].numpy()).save(folders / str(digit) / f"{number:04}.png")
        folders.rename(directory)


if __name__ == "__main__":
    write_digits(Path("data", "digits"))
