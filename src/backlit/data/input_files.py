"""Input files named on the command line; ``-`` is standard input."""

import glob
import os
from collections.abc import Iterable

from backlit.data.images import image_suffixes
from backlit.errors import ConfigError

# Standard input is kept in memory; MNIST as 64-bit floats takes a fifth of it.
MOST_STDIN_BYTES = 2 * 2**30


def find_files(names: Iterable[str]) -> list[str]:
    """Return files, sorted for each name: the file itself, a directory's images, or a pattern's matches.

    Raises:
        ConfigError: If no file matches a name.
    """
    files: list[str] = []
    for name in names:
        found = [name] if name == "-" or os.path.isfile(name) else []
        if os.path.isdir(name):
            suffixes = image_suffixes()
            inside = glob.iglob(os.path.join(glob.escape(name), "*"))
            images = (file for file in inside if os.path.splitext(file)[1].lower() in suffixes)
            found = sorted(file for file in images if os.path.isfile(file))
        elif not found:
            found = sorted(file for file in glob.iglob(name, recursive=True) if os.path.isfile(file))
        if not found:
            what = "has no images" if os.path.isdir(name) else "does not exist and matches nothing"
            if os.path.exists(name) and not os.path.isdir(name):
                what = "is a pipe or a device; to read standard input: input=-"
            raise ConfigError([f"input must be files, a directory of images, or -, got {name}, which {what}"])
        files += found
    return files


def printable_name(file: str) -> str:
    """Return a file's name with a replacement for bytes that are not text."""
    return os.fsencode(file).decode(errors="replace")


def read_stdin() -> bytes:
    """Return what is left of standard input.

    Raises:
        ConfigError: If that are more than `MOST_STDIN_BYTES`.
    """
    with open(0, "rb", closefd=False) as stream:
        content = stream.read(MOST_STDIN_BYTES + 1)
    if len(content) > MOST_STDIN_BYTES:
        raise ConfigError([f"standard input must be at most {MOST_STDIN_BYTES / 2**30:g} GB, and is more"])
    return content
