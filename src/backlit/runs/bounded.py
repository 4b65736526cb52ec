"""Reading the files of a run directory that may be a stranger's: no waiting, bounded memory, one line for the rest."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

# Far more than any run writes: records and configs; curves.
MOST_BYTES, MOST_CURVE_BYTES = 16 * 2**20, 256 * 2**20
MOST_CONFIG_BYTES, MOST_LEVELS = 2**20, 50


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the content of a regular file.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is a pipe, a device or a directory, if it is larger, or if it is no UTF-8.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would be waited for
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is no regular file")
    with open(descriptor, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path} is larger than {most_bytes / 2**20:.0f} MB")
    return content.decode()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is not JSON, or too large, or nested too deeply.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None


def read_yaml(path: Path) -> str:
    """Return the text of a YAML file whose content is of the size of its text: it has no aliases, and little depth.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is not such a file.
    """
    text, depth = read_text(path, MOST_CONFIG_BYTES), 0
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{path} must have no aliases, got *{event.anchor}")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_LEVELS:
                raise ValueError(f"{path} is nested too deeply")
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return text
