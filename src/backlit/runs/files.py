"""Files that are written whole or not at all, and directories that nobody else has."""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlit.errors import ConfigError
from backlit.text import path_override, shell_word

if TYPE_CHECKING:
    from filelock import BaseFileLock


# How often a directory is made whose parents other commands remove meanwhile.
_MAKE_ATTEMPTS = 20
# How `atomic_write` names its temporary files, so that those of killed commands are recognized.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.partial")


@contextlib.contextmanager
def atomic_write(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` if nothing is raised.

    A reader sees the old file or the new one, never a part; after a power failure, too. Temporary files that killed
    commands have left in the directory are removed.

    Args:
        path: The file.
        previous: The replaced file gets this name.

    Raises:
        OSError: If it cannot be written; it names `path`.
    """
    temporary, descriptor = path, -1
    try:
        _remove_abandoned(path.parent)
        temporary, descriptor = _create_temporary(path)
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
        if descriptor != -1:
            with contextlib.suppress(OSError):  # a read-only disk does not let it be removed either
                temporary.unlink(missing_ok=True)
            os.close(descriptor)


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Create a temporary file beside `path`; return it and a descriptor whose lock means that its writer lives."""
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Another command may take the file for an abandoned one before it is locked.
        if not _lock(descriptor) or os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file if nobody else has locked it; return whether it is locked (some disks cannot)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_abandoned(directory: Path) -> None:
    """Remove the temporary files of commands that have been killed."""
    for entry in os.scandir(directory):
        if TEMPORARY.fullmatch(entry.name):
            with contextlib.suppress(OSError):  # removed by its writer, or by another command
                descriptor = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    if _lock(descriptor):
                        os.unlink(entry.path)
                finally:
                    os.close(descriptor)


# The file whose lock shows that a process runs what is in its directory.
_LOCK = ".lock"
# The answers of a file system that has no locks: some network disks.
_LOCKLESS_ERRNOS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
# `is_locked` takes the lock for a moment; whoever runs at that moment waits.
_LOCK_TIMEOUT_S = 0.5
# The system's answers for a full disk, a quota, a read-only or a lost one.
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

# SQLite's codes for the same: SQLITE_FULL, _READONLY, _IOERR and _CANTOPEN.
_SQLITE_ERRNOS = {13: errno.ENOSPC, 8: errno.EROFS, 10: errno.EIO, 14: errno.EIO}


def is_disk_error(error: BaseException) -> bool:
    """Return whether an exception means that a disk is full, read-only or broken."""
    return isinstance(error, OSError) and error.errno in _DISK_ERRNOS


def find_disk_error(error: BaseException | None) -> OSError | None:
    """Return the error of a disk that an exception is, or that it comes from; None if there is none."""
    while error is not None:
        if isinstance(error, OSError) and is_disk_error(error):
            return error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the details in the higher bits
        if code in _SQLITE_ERRNOS:
            return OSError(_SQLITE_ERRNOS[code], str(error))
        error = error.__cause__ or error.__context__
    return None


def describe_write_error(error: OSError) -> str:
    """Return in one line which file cannot be written, and why."""
    return f"{error.filename} cannot be written: {error.strerror}" if error.filename else str(error.strerror)


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
        temporary.write_text(text, encoding="utf-8")


def make_directory(path: Path, made: list[Path] | None = None) -> bool:
    """Make a directory, with its parents; return False if it exists.

    Args:
        path: The directory.
        made: Gets all directories that had to be made, the outermost first.

    Raises:
        OSError: If it cannot be made, or if it is a file.
    """
    attempts = 0
    while True:
        missing = [path, *(parent for parent in path.parents if not parent.exists())]
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.is_dir():
                raise
            return False
        except FileNotFoundError:  # a command that was rejected has removed a parent that it had made
            attempts += 1
            if attempts == _MAKE_ATTEMPTS:
                raise
        except OSError:  # a full disk has room for some of the parents
            remove_empty_directories(missing[:0:-1])
            raise
        else:
            if made is not None:
                made += reversed(missing)
            return True


@contextlib.contextmanager
def parents_made(path: Path) -> Iterator[None]:
    """Make the directories above a file; remove those that had to be made if an exception is raised.

    Raises:
        OSError: If they cannot be made.
    """
    made: list[Path] = []
    make_directory(path.parent, made)
    try:
        yield
    except BaseException:
        remove_empty_directories(made)
        raise


def is_relative_name(name: str) -> bool:
    """Return whether a name, with ``/`` or without, is that of a file below the directory where it is looked for."""
    return name.isprintable() and all(part not in ("", ".", "..") and len(part) < 200 for part in name.split("/"))


def new_directory(wanted: Path, made: list[Path] | None = None) -> Path:
    """Make and return the directory `wanted`, or the first free one of ``wanted_2``, ``wanted_3`` and so on.

    Args:
        wanted: The directory.
        made: Gets all directories that had to be made, the outermost first, for `remove_directories`.

    Raises:
        OSError: If it cannot be made.
    """
    path, number = wanted, 1
    while not make_directory(path, made):
        number += 1
        path = wanted.with_name(f"{wanted.name}_{number}")
    return path


def remove_directories(made: list[Path]) -> None:
    """Remove what `new_directory` has made: the innermost directory with its content, the others only if empty."""
    if made:
        shutil.rmtree(made[-1], ignore_errors=True)
    remove_empty_directories(made)


def remove_empty_directories(made: list[Path]) -> None:
    """Remove directories, the last of the list first, unless somebody has put something into them."""
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()


def lock_directory(directory: Path) -> "BaseFileLock":
    """Keep other processes from running what is in a directory until the lock is released or this process ends.

    A process that has the lock gets it again; each release undoes one call. A disk without locks keeps nobody out.

    Raises:
        ConfigError: If another process has it, or if it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(directory / _LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=_LOCK_TIMEOUT_S)
    except Timeout:
        raise ConfigError([f"{directory} is being run by another process; wait for it, or end it"]) from None
    except OSError as error:
        if error.errno in _LOCKLESS_ERRNOS:
            return lock  # nobody is kept out
        elsewhere = (
            f"to resume elsewhere: {shell_word(path_override('resume', directory))} hydra.run.dir=/another/disk/run"
        )
        raise ConfigError([f"{directory} cannot be written: {error.strerror}; {elsewhere}"]) from None
    return lock


def is_locked(directory: Path) -> bool:
    """Return whether a process has locked a directory; the system releases the lock of a process that has ended.

    Unlike a process id, a lock means the same in every container and, on a shared disk, on every machine.
    """
    try:
        with (directory / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no process has ever locked it, or the file system has no locks
        return False
    return False
