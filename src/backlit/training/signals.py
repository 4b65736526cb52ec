"""Ctrl-C and SIGTERM: how they end a run, and which of them ended it."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


def interrupting_signal(error: BaseException | None) -> str | None:
    """Return the signal, ``SIGINT`` or ``SIGTERM``, that an exception comes from; None if it comes from none."""
    # Lightning turns Ctrl-C into a SystemExit, SIGTERM into an exception of its own.
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    ):
        return "SIGINT"
    exits = isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM
    return "SIGTERM" if exits or type(error).__name__ == "SIGTERMException" else None


def find_interrupt(error: BaseException | None) -> int | None:
    """Return the exit code of the signal behind an exception; None if there is none.

    A signal may strike within a library that turns it into an error of its own when it tidies up, as OmegaConf does.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return 128 + signal.SIGINT
        if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
            return 128 + signal.SIGTERM
        error = error.__cause__ or error.__context__
    return None


def raise_system_exit(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal by ending this process in order, as Ctrl-C would.

    Raises:
        SystemExit: With the code that shells expect of a program that a signal ended.
    """
    sys.exit(128 + number)


@contextlib.contextmanager
def sigterm_ends_in_order() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit` within this context; in a thread, which cannot take it, nothing changes.

    Afterwards Ctrl-C, too, does what it did before: Lightning ignores it from the first time on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, raise_system_exit)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def note_signals() -> Iterator[list[int]]:
    """Yield a list to which Ctrl-C and SIGTERM are added when they come, before what they do anyway.

    A library may lose the exception that they raise, and fail later: numpy, when it is interrupted while it is
    imported, raises an ImportError, which others catch.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        handler = before[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Deliver Ctrl-C and SIGTERM at the end of this context: a process started in it is known to who has to end it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in held:
            signal.raise_signal(late)
