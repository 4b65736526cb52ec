"""Standard streams that nobody has to read: what a command does, and its exit code, do not depend on who listens."""

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# How tables and messages look where the console's encoding lacks these characters.
_PLAIN_CHARACTERS = str.maketrans({"±": "+/-", "–": "-", "─": "-", "━": "-", "×": "x", "…": "...", "→": "->"})


def _replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    plain = error.object[error.start : error.end].translate(_PLAIN_CHARACTERS)
    return plain.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("backlit-plain", _replace_unencodable)


class _DroppingFile(io.FileIO):
    """A file descriptor that drops what it cannot write: the reader is gone, or the disk is full."""

    def write(self, content: "ReadableBuffer") -> int:
        """Write, or drop, all of `content`, and return its length in bytes."""
        left = memoryview(content).cast("B")
        size = left.nbytes
        with contextlib.suppress(OSError):
            while left:
                count = super().write(left)
                if count is None:  # another program has made the stream non-blocking
                    select.select([], [self], [])
                left = left[count or 0 :]
        return size


def open_dropping_stream(descriptor: int, like: object = None) -> TextIO:
    """Return a text stream on a descriptor, 1 or 2, on which no write fails.

    Args:
        descriptor: The descriptor, which stays open when the stream is closed.
        like: The stream whose encoding and buffering it gets; without one it writes lines, in UTF-8.
    """
    stream = io.TextIOWrapper(
        io.BufferedWriter(_DroppingFile(descriptor, "w", closefd=False)),
        encoding=like.encoding if isinstance(like, io.TextIOWrapper) else "utf-8",
        errors="backlit-plain",
        line_buffering=True,
    )
    if isinstance(like, io.TextIOWrapper):
        stream.reconfigure(line_buffering=like.line_buffering, write_through=like.write_through)
    return stream


@contextlib.contextmanager
def dropping_streams() -> Iterator[None]:
    """Let no write to stdout or stderr fail within this context, and let none of the three standard streams be missing.

    A shell closes a stream by ``>&-``; the next file that is opened would get its number, and what other code prints
    would be written into that file. Streams that somebody has replaced, as notebooks and tests do, stay.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    before = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (it is this process's stdin)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            if stream is not None:
                descriptor = stream.fileno()
                with contextlib.suppress(OSError):
                    stream.flush()
            setattr(sys, name, open_dropping_stream(descriptor, stream))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


@contextlib.contextmanager
def open_product_stream() -> Iterator[TextIO]:
    """Open stdout for data that somebody wants, in UTF-8 whatever the locale: a write that fails raises, as in a file.

    Raises:
        OSError: If stdout is closed, or cannot be written.
    """
    if not isinstance(getattr(getattr(sys.stdout, "buffer", None), "raw", None), _DroppingFile):
        yield sys.stdout  # somebody has replaced it
        return
    if sys.__stdout__ is None:
        raise OSError(errno.EBADF, "standard output is closed")
    sys.stdout.flush()
    # File names that are no UTF-8 keep their bytes.
    with open(sys.stdout.fileno(), "w", encoding="utf-8", errors="surrogateescape", newline="", closefd=False) as file:
        yield file
