"""Input files that ask for too much, or for another program: one line each, little memory, no waiting."""

import gzip
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy
import pytest
from PIL import Image

from backlit.data.images import image_suffixes
from backlit.data.input_files import find_files
from backlit.data.readers import Reader
from backlit.errors import ConfigError

pytestmark = pytest.mark.usefixtures("little_memory")


def idx(*shape: int) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def npy(header: str, content: bytes = b"\0" * 784) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def png(width: int, height: int) -> bytes:
    """Return the beginning of a PNG file of a size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def pickled() -> bytes:
    stream = io.BytesIO()
    numpy.save(stream, numpy.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def read(shape: tuple[int, ...], name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Return how many samples a file has, and what is reported of it."""
    reader, problems, samples = Reader(shape, batch_size=100), [], 0
    try:
        for rows, _ in reader.batches([name]):
            samples += len(rows)
    except ConfigError as error:
        problems = str(error).splitlines()
    return samples, [*problems, *capsys.readouterr().err.splitlines()]


MANY = 2**32 - 1
SHAPES = ["(4611686018427387904, 28, 28)", "(-1, 28, 28)", "(2, 28)", "()", "(0, 28, 28)", "(3,)", "(10000000, 784)"]
HEADERS = [
    f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}" for shape in SHAPES for kind in ("|u1", "<f8")
]
HEADERS += [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * 100 + ")}",
    "(" * 5000,
    "9" * 9000,
    "{'descr': '|O', 'fortran_order': False, 'shape': (1, 28, 28)}",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 28, 28)}",
    "{'descr': '|V4000000000', 'fortran_order': False, 'shape': (1, 28, 28)}",
    "__import__('os').system('touch exploded')",
]
IMAGE_FILES = {
    "dims.idx": idx(MANY, MANY, MANY),
    "one.idx": idx(1, MANY, MANY),
    "count.idx": idx(MANY, 28, 28) + b"\0" * 785,
    "many-dims.idx": idx(*[MANY] * 255),
    "no-dims.idx": idx(),
    "short.idx": b"\0\0\x08\x03\0",
    "dims.gz": gzip.compress(idx(MANY, MANY, MANY)),
    "short.gz": gzip.compress(idx(MANY, 28, 28) + b"\0" * 10**6)[:-20],
    "plain.gz": gzip.compress(b"\0" * 10**7),
    "nested.gz": gzip.compress(gzip.compress(idx(1, 28, 28))),
    "bomb.png": png(2**31 - 1, 2**31 - 1),
    "large.png": png(20_000, 20_000),
    "wide.png": png(90_000_000, 1),
    "empty.png": png(0, 0),
    "pickled.npy": pickled(),
    "zipped.npz": b"PK\x03\x04",
    "cut.npy": npy(HEADERS[0])[:20],
    **{f"{number}.npy": npy(header) for number, header in enumerate(HEADERS)},
}


# An array of no images is one.
VALID = [f"{number}.npy" for number, header in enumerate(HEADERS) if "(0, 28, 28)" in header]


@pytest.mark.parametrize("name", list(IMAGE_FILES))
def test_a_file_of_absurd_dimensions_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_bytes(IMAGE_FILES[name])
    samples, problems = read((1, 28, 28), name, capsys)
    assert samples <= 1300
    assert len(problems) == (name not in VALID)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("line.csv", b"1" * 10**7),
        ("fields.csv", b"1," * 10**6),
        ("quote.csv", b'"' + b"1\n" * 10**6),
        ("digits.csv", b"1" * 9000 + b",2"),
        ("binary.csv", bytes(range(256)) * 100),
        ("dims.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 2)}")),
        ("dims2.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 4611686018427387904)}")),
    ],
)
def test_points_of_absurd_sizes_are_one_line(name: str, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_bytes(content)
    samples, problems = read((2,), name, capsys)
    assert samples == 0
    assert len(problems) == 1
    assert len(problems[0]) < 300


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".png", ".psd", ".fits", ".ppm", ".pdf"])
def test_no_image_starts_another_program(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = {".eps": "EPS", ".ppm": "PPM", ".ps": "EPS", ".png": "EPS", ".pdf": "PDF"}.get(suffix, "PPM")
    Image.new("L", (28, 28)).save(f"image{suffix}", format=kind)
    reader = Reader((1, 28, 28), batch_size=100)
    assert list(reader.batches([f"image{suffix}"])) == []
    assert capsys.readouterr().err == f"error: image{suffix} cannot be read: it is no image\n"
    if suffix != ".png":
        with pytest.raises(ConfigError, match=r"got \., which has no images"):
            find_files(["."], image_suffixes())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "ICO"])
def test_the_usual_formats_are_read(kind: str) -> None:
    name = f"image.{kind.lower()}"
    Image.new("L", (28, 28), 200).convert("RGB").save(name, format=kind)
    assert find_files(["."], image_suffixes()) == [f"./{name}"]
    ((rows, images),) = Reader((1, 28, 28), batch_size=100, invert=False).batches([name])
    assert len(rows) == 1
    assert abs(int(images.float().mean()) - 200) <= 2


def test_a_directory_has_files_only() -> None:
    os.mkfifo("pipe.png")
    Path("directory.png").mkdir()
    Path("link.png").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"got \., which has no images"):
        find_files(["."], image_suffixes())
    for name in ("pipe.png", "link.png", "/dev/zero"):
        with pytest.raises(ConfigError, match="which is a pipe or a device; to read standard input: input=-"):
            find_files([name], image_suffixes())


def test_a_zip_archive_is_no_array(capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile("a.npy", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\0" * 10**6)
    reader = Reader((1, 28, 28), batch_size=100)
    assert list(reader.batches(["a.npy"])) == []
    assert capsys.readouterr().err.startswith("error: a.npy cannot be read: it is no image, no NumPy file")
