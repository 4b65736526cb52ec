"""Files that are written whole or not at all, and directories that nobody else has."""

import contextlib
import errno
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlit.errors import ConfigError
from backlit.text import shell_path

if TYPE_CHECKING:
    from filelock import BaseFileLock


@contextlib.contextmanager
def atomic_write(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` if nothing is raised.

    A reader sees the old file or the new one, never a part; after a power failure, too.

    Args:
        path: The file.
        previous: The replaced file gets this name.

    Raises:
        OSError: If it cannot be written; it names `path`.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # a read-only disk does not let it be removed either
            temporary.unlink(missing_ok=True)


# The system's answers for a full disk, a quota, a read-only or a lost one.
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def is_disk_error(error: BaseException) -> bool:
    """Return whether an exception means that a disk is full, read-only or broken."""
    return isinstance(error, OSError) and error.errno in _DISK_ERRNOS


def json_text(content: Any, indent: int | None = None) -> str:
    """Return plain data as JSON, with ``null`` for nan and infinity, for which JSON has no word."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all; nan and infinity become ``null``."""
    text = json_text(content, indent=2) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def new_directory(wanted: Path, made: list[Path] | None = None) -> Path:
    """Make and return the directory `wanted`, or the first free one of ``wanted_2``, ``wanted_3`` and so on.

    Args:
        wanted: The directory.
        made: Gets all directories that had to be made, the outermost first, for `remove_directories`.

    Raises:
        OSError: If it cannot be made.
    """
    parents = [parent for parent in wanted.parents if not parent.exists()]
    path, number = wanted, 1
    while True:
        try:
            path.mkdir(parents=True)
            if made is not None:
                made += [*reversed(parents), path]
            return path
        except FileExistsError:
            if not path.is_dir():
                raise
            number += 1
            path = wanted.with_name(f"{wanted.name}_{number}")


def remove_directories(made: list[Path]) -> None:
    """Remove what `new_directory` has made: the innermost directory with its content, the others only if empty."""
    if made:
        shutil.rmtree(made[-1], ignore_errors=True)
        for path in made[-2::-1]:
            with contextlib.suppress(OSError):
                path.rmdir()


def lock_directory(directory: Path) -> "BaseFileLock":
    """Keep other processes from running what is in a directory until the lock is released or this process ends.

    Raises:
        ConfigError: If another process has it, or if it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError([f"{directory} is being run by another process; wait for it, or end it"]) from None
    except OSError as error:
        elsewhere = f"to resume elsewhere: resume={shell_path(directory)} hydra.run.dir=<a new directory>"
        raise ConfigError([f"{directory} cannot be written: {error.strerror}; {elsewhere}"]) from None
    return lock
