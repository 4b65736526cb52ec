"""Reading the files of a run directory that may be a stranger's: no waiting, bounded memory, one line for the rest."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

from backlit.text import first_line

# Far more than any run writes: records and configs; curves.
MOST_BYTES, MOST_CURVE_BYTES = 16 * 2**20, 256 * 2**20
MOST_CONFIG_BYTES, MOST_LEVELS, MOST_LETTERS = 2**20, 50, 10_000


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the content of a regular file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read, is a pipe, a device or a directory, is larger, or is no UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would be waited for
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ValueError(f"{path} must be a file, got a directory or a device")
        with open(descriptor, "rb") as file:
            content = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} must be a file that can be read, got: {error.strerror}") from None
    if len(content) > most_bytes:
        raise ValueError(f"{path} must be at most {most_bytes / 2**20:.0f} MB, and is larger")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be text, got other bytes") from None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; ``NaN`` and ``Infinity``, which are not JSON, count as ``null``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read, or is no JSON, or too large, or nested too deeply.
    """
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path} must be readable JSON, got: {reason}") from None


def read_yaml(path: Path) -> str:
    """Return the text of a YAML file that is read in the time and memory of its size.

    It has no aliases, little depth, and no number that takes long to convert.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not such a file.
    """
    text, depth = read_text(path, MOST_CONFIG_BYTES), 0
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{path} must be YAML without aliases, got *{event.anchor}")
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > MOST_LETTERS:
                raise ValueError(f"{path} must be YAML with values of at most {MOST_LETTERS:,} characters")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_LEVELS:
                raise ValueError(f"{path} must be YAML of at most {MOST_LEVELS} levels, and is nested too deeply")
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} must be YAML, got: {first_line(error)}") from None
    return text
