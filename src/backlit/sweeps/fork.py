"""Forked processes that send back a result, none of which outlives the process that has forked it."""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from backlit.training.signals import hold_signals

# On other systems fork is missing, or unsafe with the system's libraries.
CAN_FORK = sys.platform == "linux"
# Time between two checks of whether a parent, or a child, still runs.
POLL_S = 0.1
# Time for a job to end after SIGTERM or Ctrl-C, before SIGKILL.
JOB_GRACE_S = 15


def fork(work: Callable[[], tuple[bool, Any]], receiver: Connection, sender: Connection) -> Any:
    """Return a forked process that calls `work` and sends its result; Ctrl-C ends it without a traceback.

    A value that cannot be pickled is sent as its `repr`.

    Args:
        work: Returns whether it has succeeded, and a value.
        receiver: The end of the pipe that the parent keeps. The process closes its copy: without a reader it would
            otherwise wait forever for its own pipe to be read.
        sender: The end of the pipe that the process keeps; it is closed here.
    """

    def work_and_send() -> None:
        receiver.close()
        try:
            completed, value = work()
            with contextlib.suppress(BrokenPipeError):  # the parent is gone
                try:
                    sender.send((completed, value))
                except (pickle.PicklingError, AttributeError, TypeError):
                    sender.send((completed, repr(value)))
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)

    sys.stdout.flush()
    sys.stderr.flush()
    process = multiprocessing.get_context("fork").Process(target=work_and_send)
    process.start()
    sender.close()
    return process


def when_parent_ends(parent: int, end: Callable[[], object]) -> None:
    """Call `end`, in a thread, as soon as this process's parent is gone.

    Args:
        parent: The parent's process id, as the parent has found it: here it may be gone already.
        end: Ends this process.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        end()

    threading.Thread(target=watch, daemon=True).start()


def end_session() -> None:
    """End all processes of this session: SIGTERM, so that a run saves its state, and later SIGKILL."""
    os.killpg(0, signal.SIGTERM)
    time.sleep(JOB_GRACE_S)
    os.killpg(0, signal.SIGKILL)


class Child:
    """A function that runs in a forked process; if processes cannot be forked, it runs when its result is wanted.

    Args:
        function: What runs there.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._process: Any = None
        if not CAN_FORK:
            return
        self._receiver, sender = multiprocessing.Pipe(duplex=False)
        try:
            with hold_signals():
                self._process = fork(functools.partial(_call, function, os.getpid()), self._receiver, sender)
        except BaseException:  # a signal that was held: whoever wanted the result does not get this object to close
            self.close()
            raise

    def handles(self) -> list[Any]:
        """Return what `multiprocessing.connection.wait` can wait for until there is a result."""
        return [] if self._process is None else [self._receiver, self._process.sentinel]

    def has_ended(self) -> bool:
        """Return whether `result` does not wait."""
        return self._process is None or self._receiver.poll() or not self._process.is_alive()

    def result(self) -> Any:
        """Wait for the result of the function and return it.

        Raises:
            Exception: That of the function.
            RuntimeError: If the process has died.
        """
        if self._process is None:
            return self._function()
        # What the process has forked itself may keep the pipe open when it has died.
        while not self._receiver.poll(POLL_S) and self._process.is_alive():
            pass
        try:
            if not self._receiver.poll():
                raise EOFError
            succeeded, value = self._receiver.recv()
        except (EOFError, OSError):  # OSError: it was killed while it was sending
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"the process that checks the jobs ended with exit code {code}") from None
        if not succeeded:
            raise value
        return value

    def close(self) -> None:
        """Kill the process, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._receiver.close()


def _call(function: Callable[[], Any], parent: int) -> tuple[bool, Any]:
    """Return whether a function has succeeded, and its value or exception; in a process that was forked for it."""
    # A terminal sends Ctrl-C to this process, too; the parent ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    when_parent_ends(parent, lambda: os._exit(1))
    try:
        return True, function()
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception with arguments of its own
            return False, RuntimeError(f"{type(error).__name__}: {error}")
        return False, error


@contextlib.contextmanager
def run_in_child(function: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """Run `function` in a `Child`, which is killed at the end of this context if it still runs.

    Yields:
        A function that waits for the result and returns it.
    """
    with contextlib.closing(Child(function)) as child:
        yield child.result
