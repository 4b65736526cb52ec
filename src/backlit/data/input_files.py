"""Input files named on the command line; ``-`` is standard input."""

import glob
import os
from collections.abc import Collection, Iterable

from backlit.errors import ConfigError

# Standard input is kept in memory; MNIST as 64-bit floats takes a fifth of it.
MOST_STDIN_BYTES = 2 * 2**30


def find_files(names: Iterable[str], suffixes: Collection[str], noun: str = "images") -> list[str]:
    """Return files, sorted for each name: the file itself, a directory's files at any depth, or a pattern's matches.

    Args:
        names: Of files and directories; patterns; ``-``.
        suffixes: Of the files of a directory that are meant, in lower case; hidden ones are left out.
        noun: What they are.

    Raises:
        ConfigError: If no file matches a name.
    """
    files: list[str] = []
    for name in names:
        if name == "-" or os.path.isfile(name):
            found, what = [name], ""
        elif os.path.isdir(name):
            found, what = _files_below([name], suffixes), f"has no {noun} ({', '.join(sorted(suffixes))})"
        else:
            matches = sorted(glob.iglob(name, recursive=True))
            found = [file for file in matches if os.path.isfile(file)]
            what = "does not exist and matches nothing"
            if folders := [match for match in matches if not found and os.path.isdir(match)]:
                found, what = _files_below(folders, suffixes), f"matches only directories without {noun}"
        if not found:
            if os.path.exists(name) and not os.path.isdir(name):
                what = "is a pipe or a device; to read standard input: input=-"
            raise ConfigError([f"input must be files, a directory of {noun}, or -, got {name}, which {what}"])
        files += found
    return files


def _files_below(directories: Iterable[str], suffixes: Collection[str]) -> list[str]:
    """Return the files with some suffixes in directories, at any depth, sorted; links are followed, once each."""
    found: list[str] = []
    visited: set[str] = set()
    for top in directories:
        for folder, inner, names in os.walk(top, followlinks=True):
            inner[:] = [name for name in inner if not name.startswith(".")]
            real = os.path.realpath(folder)
            if real in visited:
                inner.clear()
                continue
            visited.add(real)
            paths = (os.path.join(folder, name) for name in names if not name.startswith("."))
            found += [path for path in paths if os.path.splitext(path)[1].lower() in suffixes and os.path.isfile(path)]
    return sorted(found)


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
