"""Picture files of any kind as small images of one size: those of an image folder, in training and in prediction."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from backlit.data.images import FORMATS, image_suffixes
from backlit.data.input_files import printable_name
from backlit.text import printable

Shape = tuple[int, int, int]


class UnreadablePicturesError(ValueError):
    """Files that are no pictures, or damaged; the message names the first one."""


def read_picture(stream: BinaryIO, shape: Shape) -> NDArray[numpy.uint8]:
    """Return any picture as a uint8 image of shape ``(c, h, w)``, of 1 (grey) or 3 channels (RGB).

    It is scaled, smoothly, until it covers the image, and cut at its centre: torchvision's ``Resize`` and
    ``CenterCrop``. Rotations that a camera has noted are applied, transparent pixels become white, and of several
    frames the first is read.

    Args:
        stream: An open file.
        shape: ``(c, h, w)``.

    Raises:
        Exception: Any exception of PIL, if the file is damaged or no picture, or if the picture is so large that PIL
            warns of a decompression bomb (90 million pixels).
    """
    channels, height, width = shape
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        opened = Image.open(stream, formats=FORMATS)
    mode = "L" if channels == 1 else "RGB"
    longest = 2 * max(height, width)
    opened.draft(mode, (longest, longest))  # a photo's JPEG need not be decoded at its full size
    picture = ImageOps.exif_transpose(opened)
    if picture.mode[0] in "IF":  # more than 8 bits: 16 if there are integers
        values = numpy.asarray(picture, numpy.float64)
        unit = 257 if values.max() > 255 else 1 if picture.mode[0] == "I" or values.max() > 1 else 1 / 255
        picture = Image.fromarray((values / unit).round().clip(0, 255).astype(numpy.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = ImageOps.fit(picture.convert(mode), (width, height), Image.Resampling.BILINEAR)
    return numpy.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)


def read_pictures(files: Sequence[str], shape: Shape) -> Tensor:
    """Return picture files as images ``(n, c, h, w)``, uint8.

    Raises:
        UnreadablePicturesError: If some cannot be read.
    """
    images = torch.empty(len(files), *shape, dtype=torch.uint8)
    array = images.numpy()
    failed: dict[str, str] = {}

    def read(index: int) -> None:
        found = _try_picture(files[index], shape)
        if isinstance(found, str):
            failed[files[index]] = found
        else:
            array[index] = found

    with ThreadPoolExecutor(os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) as pool:
        list(pool.map(read, range(len(files))))
    if failed:
        first = min(failed)
        more = f", and {len(failed) - 1:,} more" if len(failed) > 1 else ""
        raise UnreadablePicturesError(f"{printable_name(first)} cannot be read: {failed[first]}{more}")
    return images


def _try_picture(file: str, shape: Shape) -> NDArray[numpy.uint8] | str:
    """Return a picture, or the reason why it cannot be read."""
    try:
        with open(file, "rb") as stream:
            return read_picture(stream, shape)
    except UnidentifiedImageError:
        return "it is no image"
    except OSError as error:
        return error.strerror or str(error).partition("\n")[0]
    except Exception as error:  # for a damaged file, PIL raises errors of any kind
        return str(error).partition("\n")[0] or type(error).__name__


class PictureReader:
    """Reads picture files for predictions as `read_picture` does, a batch at a time.

    Args:
        shape: Shape ``(c, h, w)`` of an image.
        batch_size: Number of images per batch.
    """

    reads_images = True
    noun = "images"
    inverted = framed = 0

    def __init__(self, shape: Shape, batch_size: int) -> None:
        self.shape = shape
        self.batch_size = batch_size
        self.suffixes = image_suffixes()
        self.skipped = 0

    def batches(self, files: Sequence[str]) -> Iterator[tuple[list[dict[str, str]], Tensor]]:
        """Yield batches: one row per image; images ``(b, c, h, w)``, uint8.

        A file that cannot be read is reported on stderr, counted in `skipped`, and skipped.
        """
        for start in range(0, len(files), self.batch_size):
            rows, images = [], []
            for file in files[start : start + self.batch_size]:
                found = _try_picture("/dev/stdin" if file == "-" else file, self.shape)
                if isinstance(found, str):
                    print(printable(f"error: {file} cannot be read: {found}"), file=sys.stderr)
                    self.skipped += 1
                else:
                    rows.append({"source": printable_name(file)})
                    images.append(found)
            if rows:
                yield rows, torch.from_numpy(numpy.stack(images))


def picture_files(directory: Path, classes: Sequence[str], suffixes: set[str]) -> list[tuple[str, int]]:
    """Return the picture files in the folders of the classes, at any depth, each with its class index, in order.

    Hidden files, and those with other suffixes, are left out.
    """
    from torchvision.datasets.folder import make_dataset

    def is_picture(file: str) -> bool:
        name = os.path.basename(file)
        return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes

    indices = {name: index for index, name in enumerate(classes)}
    found: list[tuple[str, int]] = make_dataset(directory, indices, is_valid_file=is_picture, allow_empty=True)
    return found
