"""Reads images and points from files, a batch at a time, in the form in which data modules store samples."""

import contextlib
import csv
import functools
import gzip
import io
import itertools
import math
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Literal, TextIO

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from backlit.data.images import border_median, image_suffixes, open_image, to_shape
from backlit.data.input_files import printable_name, read_stdin
from backlit.errors import ConfigError
from backlit.text import printable

# One row per sample of a batch: the columns that describe the sample in the predictions, by name.
Rows = list[dict[str, Any]]


class Reader:
    """Reads images or points from files, a batch at a time.

    Args:
        shape: Shape of a sample: ``(1, h, w)`` for images, ``(2,)`` for points.
        batch_size: Number of samples per batch.
        invert: Whether to invert image files, which are dark on light, since the networks expect light on dark; None to
            decide by their borders.
        frame: Whether to find the digit of an image file and to frame it as in MNIST: "mnist" in each image, "none" in
            none, "auto" in those of another size than that of a sample.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        batch_size: int,
        *,
        invert: bool | None = None,
        frame: Literal["auto", "mnist", "none"] = "none",
    ) -> None:
        self.shape = shape
        self.batch_size = batch_size
        self.invert = invert
        self.frame = frame
        self.reads_images = len(shape) == 3
        self.noun = "images" if self.reads_images else "points"
        self.suffixes = image_suffixes() if self.reads_images else {".csv", ".npy"}
        self.inverted = self.framed = self.skipped = 0

    def batches(self, files: Sequence[str]) -> Iterator[tuple[Rows, Tensor]]:
        """Yield batches: one row per sample; uint8 images of shape ``(b, 1, h, w)`` or float64 points ``(b, 2)``.

        A file that cannot be read is reported on stderr, counted in `skipped`, and skipped.

        Raises:
            ConfigError: If a file is readable, but its samples do not fit the run.
        """
        for is_array, group in itertools.groupby(files, self._is_array):
            while not is_array and (chunk := list(itertools.islice(group, self.batch_size))):
                yield from self._images(chunk)
            for file in group:
                try:
                    yield from self._array(file) if self.reads_images or file.endswith(".npy") else self._csv(file)
                except ConfigError:
                    raise
                except Exception as error:  # a damaged file makes NumPy and gzip raise errors of many kinds
                    self._skip(file, error)

    @functools.cached_property
    def _stdin(self) -> bytes:
        return read_stdin()

    def _open(self, file: str) -> BinaryIO:
        """Return an open file; for ``-`` the content of standard input, which may be opened several times."""
        return io.BytesIO(self._stdin) if file == "-" else open(file, "rb")

    def _is_array(self, file: str) -> bool:
        """Return whether a file is an array of samples rather than one image."""
        if not self.reads_images or file.endswith(".npy"):
            return True
        if file.endswith((".png", ".jpg", ".jpeg")):  # most files; they are opened once
            return False
        with contextlib.suppress(OSError), self._open(file) as stream:
            head = stream.read(4)
            return head[:2] in (b"\0\0", b"\x1f\x8b", b"\x93N") and head != b"\0\0\1\0"  # which is an icon's
        return False

    def _skip(self, file: str, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        print(printable(f"error: {file} cannot be read: {reason}"), file=sys.stderr)
        self.skipped += 1

    def _images(self, files: Sequence[str]) -> Iterator[tuple[Rows, Tensor]]:
        # One thread: two threads on two cores need longer to read 10,000 small PNG files.
        read: list[tuple[str, NDArray[numpy.uint8], bool | None]] = []
        for file in files:
            try:
                with self._open(file) as stream:
                    read.append((printable_name(file), *self._image(file, open_image(stream))))
            except UnidentifiedImageError:
                self._skip(file, ValueError("it is no image"))
            except Exception as error:  # for a damaged file, PIL raises errors of any kind
                self._skip(file, error)
        if read:
            images = numpy.stack([image for _, image, _ in read])
            if self.invert is None:
                border = border_median(images)
                inverted = (border > 127) & (border > images.mean((1, 2)))  # MNIST is bright on dark
            else:
                inverted = numpy.full(len(images), self.invert)
            inverted &= numpy.array([known is None for _, _, known in read])
            images[inverted] = 255 - images[inverted]
            rows: Rows = [
                {"source": name, "inverted": bool(known or now)}
                for (name, _, known), now in zip(read, inverted, strict=True)
            ]
            self.inverted += sum(row["inverted"] for row in rows)
            yield rows, torch.from_numpy(images).unsqueeze(1)

    def _image(self, file: str, opened: Image.Image) -> tuple[NDArray[numpy.uint8], bool | None]:
        """Return an image of a sample's size, and whether it has been inverted; None if that is to be decided."""
        height, width = self.shape[1:]
        if self.frame == "none" or (self.frame == "auto" and opened.size == (width, height)):
            return to_shape(opened, height, width), None
        from backlit.data.framing import frame_digit  # SciPy, which only photos need

        digit = frame_digit(opened, invert=self.invert)
        if digit.groups > 1:
            what = f"{digit.groups} groups of strokes were found; the largest is predicted"
            print(printable(f"warning: {file}: {what}"), file=sys.stderr)
        self.framed += 1
        return digit.image, digit.inverted

    def _array(self, file: str) -> Iterator[tuple[Rows, Tensor]]:
        """Yield the batches of an array in NumPy's or MNIST's (IDX) format, which may be gzipped."""
        with self._open(file) as stream:
            magic = stream.read(2)
            stream.seek(0)
            if magic == b"\x93N":
                with numpy.errstate(over="raise"):  # a shape of absurd size
                    array = numpy.load(stream) if file == "-" else numpy.load(file, mmap_mode="r")
                for start in range(0, len(array), self.batch_size):
                    yield self._part(file, start, array[start : start + self.batch_size])
                return
            unpacked: Any = gzip.GzipFile(fileobj=stream) if magic == b"\x1f\x8b" else stream
            zeros, kind, dimensions = struct.unpack(">HBB", unpacked.read(4))
            if zeros or kind != 8 or not 1 <= dimensions <= 4:
                raise ValueError("it is no image, no NumPy file and no IDX file of bytes")
            count, *shape = struct.unpack(f">{dimensions}I", unpacked.read(4 * dimensions))
            self._check_shape(file, tuple(shape), numpy.dtype("uint8"))  # before so many bytes are read
            for start in range(0, count, self.batch_size):
                size = min(self.batch_size, count - start) * math.prod(shape)
                if len(content := unpacked.read(size)) < size:
                    raise ValueError(f"it ends too soon; the samples before {file}[{start}] are predicted")
                yield self._part(file, start, numpy.frombuffer(content, numpy.uint8).reshape(-1, *shape))

    def _part(self, file: str, start: int, part: NDArray[Any]) -> tuple[Rows, Tensor]:
        """Return the rows of samples, which start at index `start` of a file, and the samples as stored."""
        self._check_shape(file, part.shape[1:], part.dtype)
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
        rows = [{"source": f"{printable_name(file)}[{start + i}]", "inverted": False} for i in range(len(part))]
        return rows, torch.from_numpy(numpy.array(part)).reshape(-1, *self.shape)

    def _check_shape(self, file: str, shape: tuple[int, ...], dtype: "numpy.dtype[Any]") -> None:
        """Raise `ConfigError` if samples of a shape do not fit the run, or if they are no numbers."""
        fits = [self.shape, self.shape[1:], (math.prod(self.shape),)] if self.reads_images else [self.shape]
        if shape not in fits or dtype.kind not in "uif":
            rule = f"numbers in samples of shape {' or '.join(map(str, fits))}"
            raise ConfigError([f"{file} must have {rule} for this run, got {dtype} {shape}"])

    def _csv(self, file: str) -> Iterator[tuple[Rows, Tensor]]:
        """Yield the batches of points in a CSV file; a header says which columns are x and y."""

        def points(lines: Any) -> Iterator[list[float]]:
            columns, count = [0, 1], 2
            for index, fields in enumerate(filter(None, lines)):
                if index == 0 and all(_number(field) is None for field in fields):
                    columns, count = _point_columns(file, fields), len(fields)
                    continue
                point = [_number(fields[column]) for column in columns] if len(fields) == count else []
                values = [value for value in point if value is not None and math.isfinite(value)]
                if len(values) != 2:
                    rule = f"{file}, line {lines.line_num}, must be two finite numbers, x and y"
                    raise ConfigError([f"{rule}, got {','.join(fields)[:60]!r}"])
                yield values

        with open(0 if file == "-" else file, newline="", encoding="utf-8-sig", closefd=file != "-") as stream:
            left = points(csv.reader(_lines(stream)))
            try:
                while chunk := list(itertools.islice(left, self.batch_size)):
                    yield [{"x": x, "y": y} for x, y in chunk], torch.tensor(chunk, dtype=torch.float64)
            except (UnicodeDecodeError, csv.Error):
                raise ConfigError([f"{file} must be points for this run, as CSV or .npy, got no text"]) from None


def _lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a text; a file without line ends is not read as a whole.

    Raises:
        csv.Error: If a line is longer than 10,000 characters.
    """
    while line := stream.readline(10_000):
        if len(line) == 10_000:
            raise csv.Error("a line is too long")
        yield line


def _point_columns(file: str, header: Sequence[str]) -> list[int]:
    """Return which columns of a CSV file are x and y.

    Raises:
        ConfigError: If its header does not say that.
    """
    names = [name.strip().lower() for name in header]
    if names.count("x") != 1 or names.count("y") != 1:
        raise ConfigError([f"{file} must have a column x and a column y, or no header, got {','.join(header)[:60]!r}"])
    return [names.index("x"), names.index("y")]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
