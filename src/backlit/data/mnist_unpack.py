"""Unpacks and verifies MNIST's four files, which come with this package."""

import functools
import gzip
import hashlib
import logging
import os
import zlib
from importlib import resources
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)

# sha256 of the four unpacked files; mnist_files/README.md lists them too, with the attribution.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_MOST_BYTES = 2**26  # of an unpacked file; MNIST's largest has 47 million


def _is_intact(path: Path) -> bool:
    """Return whether an unpacked MNIST file exists and is the original, byte for byte."""
    try:
        stat = path.stat()
        if not path.is_file():  # a pipe would be waited for
            return False
        return _digest(path.resolve(), stat.st_mtime_ns, stat.st_size, stat.st_ino) == MNIST_SHA256[path.name]
    except FileNotFoundError:
        return False


@functools.lru_cache
def _digest(path: Path, *identity: int) -> str:
    """Return a file's sha256; an unchanged file is read once per process, not before both training and testing."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpacked(name: str, packed_in: list[Path]) -> bytes:
    """Return an MNIST file's bytes from a packed file in one of the folders, or from this package's copy."""
    for folder in packed_in:
        packed = folder / f"{name}.gz"
        if packed.is_file():
            try:
                with gzip.open(packed) as file:
                    content = file.read(_MOST_BYTES)
            except (OSError, EOFError, zlib.error):
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
    """Return a folder with the four MNIST files, unpacked and intact; write missing files.

    The files are searched for in ``data_dir/MNIST/raw`` (torchvision's folder) and in `data_dir` itself, unpacked
    or as ``.gz``. A missing, truncated or altered file is written to ``data_dir/MNIST/raw``, first under a temporary
    name, so that a file with the final name is always complete.

    Raises:
        OSError: If a file is missing and cannot be written.
        RuntimeError: If this package's copy is damaged.
    """
    raw = data_dir / "MNIST" / "raw"
    if not raw.exists() and all(_is_intact(data_dir / name) for name in MNIST_SHA256):
        return data_dir
    if all(_is_intact(raw / name) for name in MNIST_SHA256):
        return raw
    raw.mkdir(parents=True, exist_ok=True)
    # If two runs start at once, the second waits, then finds the files. A killed run leaves the lock free and at most
    # one .partial file, which the next run overwrites.
    with FileLock(raw / ".lock"):
        for name in MNIST_SHA256:
            target = raw / name
            if _is_intact(target):
                continue
            if target.exists():
                log.warning("%s is truncated or altered; the original replaces it", target)
            partial = raw / f"{name}.partial"
            partial.unlink(missing_ok=True)  # it may be a link
            try:
                partial.write_bytes(_unpacked(name, [raw, data_dir]))
                os.replace(partial, target)
            except OSError:  # a full disk
                partial.unlink(missing_ok=True)
                raise
    return raw
