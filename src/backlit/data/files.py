"""Images and points from files: read a batch at a time, in the form in which the data modules store their samples."""

import contextlib
import csv
import functools
import glob
import gzip
import io
import itertools
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from backlit.run import ConfigError

# What is told of each sample.
Rows = list[dict[str, Any]]


def find_files(names: Iterable[str]) -> list[str]:
    """Return the files that names mean: of a directory its images, of a pattern what matches, sorted.

    Raises:
        ConfigError: If a name means none.
    """
    files: list[str] = []
    for name in names:
        found = [name] if name == "-" or os.path.isfile(name) else []
        if os.path.isdir(name):
            Image.init()
            suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
            inside = glob.iglob(os.path.join(glob.escape(name), "*"))
            found = sorted(file for file in inside if os.path.splitext(file)[1].lower() in suffixes)
        elif not found:
            found = sorted(file for file in glob.iglob(name, recursive=True) if os.path.isfile(file))
        if not found:
            what = "has no images" if os.path.isdir(name) else "does not exist and matches nothing"
            raise ConfigError([f"input must be files, a directory of images, or -, got {name}, which {what}"])
        files += found
    return files


class Reader:
    """Reads images or points from files, a batch at a time.

    Args:
        shape: Of a sample: ``(1, h, w)`` for images, ``(2,)`` for points.
        batch_size: How many samples are read at once.
        invert: Whether image files are dark on light, which the networks here are not; None to tell by their borders.
    """

    def __init__(self, shape: tuple[int, ...], batch_size: int, *, invert: bool | None = None) -> None:
        self.shape = shape
        self.batch_size = batch_size
        self.invert = invert
        self.reads_images = len(shape) == 3
        self.inverted = self.skipped = 0

    def batches(self, files: Sequence[str]) -> Iterator[tuple[Rows, Tensor]]:
        """Yield rows, what is told of each sample before its class; and uint8 images ``(b, 1, h, w)``, float64 points.

        A file that cannot be read is named on stderr, counted and skipped.

        Raises:
            ConfigError: If one can be read, but does not fit.
        """
        for is_array, group in itertools.groupby(files, self._is_array):
            while not is_array and (chunk := list(itertools.islice(group, self.batch_size))):
                yield from self._images(chunk)
            for file in group:
                try:
                    yield from self._array(file) if self.reads_images or file.endswith(".npy") else self._csv(file)
                except ConfigError:
                    raise
                except (OSError, ValueError, TypeError, EOFError, struct.error, zlib.error) as error:
                    self._skip(file, error)

    def _is_array(self, file: str) -> bool:
        """Tell whether a file has samples one after the other, rather than one image."""
        if not self.reads_images or file.endswith(".npy"):
            return True
        if file.endswith((".png", ".jpg", ".jpeg")):  # most files; they need not be opened twice
            return False
        with contextlib.suppress(OSError), _open(file) as stream:
            return stream.read(2) in (b"\0\0", b"\x1f\x8b", b"\x93N")
        return False

    def _skip(self, file: str, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        print(f"error: {file} cannot be read: {reason}", file=sys.stderr)
        self.skipped += 1

    def _images(self, files: Sequence[str]) -> Iterator[tuple[Rows, Tensor]]:
        # In one thread: two of them, on two cores, take longer to read 10,000 small PNG files.
        read: list[tuple[str, NDArray[numpy.uint8]]] = []
        for file in files:
            try:
                with _open(file) as stream:
                    read.append((_printable(file), read_image(stream, *self.shape[1:])))
            except UnidentifiedImageError:
                self._skip(file, ValueError("it is no image"))
            except Exception as error:  # whatever a damaged file makes PIL raise
                self._skip(file, error)
        if read:
            images = numpy.stack([image for _, image in read])
            if self.invert is None:
                behind = background(images)
                inverted = (behind > 127) & (behind > images.mean((1, 2)))  # MNIST is bright on dark
            else:
                inverted = numpy.full(len(images), self.invert)
            images[inverted] = 255 - images[inverted]
            self.inverted += int(inverted.sum())
            rows = [{"source": read[i][0], "inverted": bool(inverted[i])} for i in range(len(read))]
            yield rows, torch.from_numpy(images).unsqueeze(1)

    def _array(self, file: str) -> Iterator[tuple[Rows, Tensor]]:
        """Read NumPy's format, or that of MNIST (IDX), which may be packed."""
        with _open(file) as stream:
            magic = stream.read(2)
            stream.seek(0)
            if magic == b"\x93N":
                array = numpy.load(stream) if file == "-" else numpy.load(file, mmap_mode="r")
                for start in range(0, len(array), self.batch_size):
                    yield self._part(file, start, array[start : start + self.batch_size])
                return
            unpacked: Any = gzip.GzipFile(fileobj=stream) if magic == b"\x1f\x8b" else stream
            zeros, kind, dimensions = struct.unpack(">HBB", unpacked.read(4))
            if zeros or kind != 8 or not dimensions:
                raise ValueError("it is no image, no NumPy file and no IDX file of bytes")
            count, *shape = struct.unpack(f">{dimensions}I", unpacked.read(4 * dimensions))
            for start in range(0, count, self.batch_size):
                size = min(self.batch_size, count - start) * math.prod(shape)
                if len(content := unpacked.read(size)) < size:
                    raise ValueError(f"it ends too soon; told is what is before {file}[{start}]")
                yield self._part(file, start, numpy.frombuffer(content, numpy.uint8).reshape(-1, *shape))

    def _part(self, file: str, start: int, part: NDArray[Any]) -> tuple[Rows, Tensor]:
        """Return samples that begin at place `start` of a file, in the shape and dtype that is wanted."""
        fits = [self.shape, self.shape[1:], (math.prod(self.shape),)] if self.reads_images else [self.shape]
        if part.shape[1:] not in fits or part.dtype.kind not in "uif":
            rule = f"numbers in samples of shape {' or '.join(map(str, fits))}"
            raise ConfigError([f"{file} must have {rule} for this run, got {part.dtype} {part.shape[1:]}"])
        if not self.reads_images:
            points = part.astype(numpy.float64).tolist()
            for index, point in enumerate(points):
                if not all(map(math.isfinite, point)):
                    raise ConfigError([f"{file}[{start + index}] must be two finite numbers, got {point}"])
            return [{"x": x, "y": y} for x, y in points], torch.tensor(points, dtype=torch.float64)
        if part.dtype != numpy.uint8:
            highest = 1 if part.dtype.kind == "f" else 255
            if not (part.min() >= 0 and part.max() <= highest):
                rule = "integers from 0 to 255, or floats from 0 to 1"
                raise ConfigError([f"{file} must have {rule}, got {part.dtype} from {part.min()} to {part.max()}"])
            part = (part * (255 / highest)).round().astype(numpy.uint8)
        rows = [{"source": f"{_printable(file)}[{start + i}]", "inverted": False} for i in range(len(part))]
        return rows, torch.from_numpy(numpy.array(part)).reshape(-1, *self.shape)

    def _csv(self, file: str) -> Iterator[tuple[Rows, Tensor]]:
        def points(lines: Any) -> Iterator[list[float]]:
            for fields in filter(None, lines):
                point = [_number(field) for field in fields]
                if lines.line_num == 1 and point == [None, None]:
                    continue  # a header
                values = [value for value in point if value is not None and math.isfinite(value)]
                if not len(point) == len(values) == 2:
                    rule = f"{file}, line {lines.line_num}, must be two finite numbers, x and y"
                    raise ConfigError([f"{rule}, got {','.join(fields)[:60]!r}"])
                yield values

        with open(0 if file == "-" else file, newline="", encoding="utf-8-sig", closefd=file != "-") as stream:
            left = points(csv.reader(stream))
            try:
                while chunk := list(itertools.islice(left, self.batch_size)):
                    yield [{"x": x, "y": y} for x, y in chunk], torch.tensor(chunk, dtype=torch.float64)
            except (UnicodeDecodeError, csv.Error):
                raise ConfigError([f"{file} must be points for this run, as CSV or .npy, got no text"]) from None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _printable(file: str) -> str:
    return os.fsencode(file).decode(errors="replace")


@functools.cache
def _stdin() -> bytes:
    with open(0, "rb", closefd=False) as stream:
        return stream.read()


def _open(file: str) -> BinaryIO:
    return io.BytesIO(_stdin()) if file == "-" else open(file, "rb")


def read_image(stream: BinaryIO, height: int, width: int) -> NDArray[numpy.uint8]:
    """Return any image as one of shape ``(height, width)``, grey, uint8.

    What is transparent becomes white behind dark things, black behind bright ones. What has more than 8 bits is
    stretched from its darkest to its brightest pixel. One of another shape is padded with what is at its border.

    Raises:
        Exception: Whatever PIL raises for a file that is no image, or a damaged one.
    """
    opened = Image.open(stream)
    opened.draft("L", (4 * width, 4 * height))  # a photo's JPEG need not be decoded at its full size
    image = ImageOps.exif_transpose(opened)
    if image.mode[0] in "IF":
        values = numpy.asarray(image, numpy.float64)
        scaled = (values - values.min()) * (255 / max(values.max() - values.min(), 1e-300))
        image = Image.fromarray(scaled.round().astype(numpy.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha, image = image.getchannel("A"), image.convert("L")
        is_bright = numpy.average(numpy.asarray(image), weights=numpy.asarray(alpha) + 1e-9) > 127
        image = Image.composite(image, Image.new("L", image.size, 0 if is_bright else 255), alpha)
    image = image.convert("L")
    behind = 0 if image.width == image.height else int(background(numpy.asarray(image)[None])[0])
    return numpy.asarray(ImageOps.pad(image, (width, height), color=behind))


def background(images: NDArray[numpy.uint8]) -> NDArray[numpy.float64]:
    """Return the median of the pixels at the border of images ``(b, h, w)``, shape ``(b,)``."""
    border = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    return numpy.asarray(numpy.median(numpy.concatenate(border, 1), axis=1))
