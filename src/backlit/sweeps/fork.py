"""Forked processes that send back a result."""

import multiprocessing
import pickle
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

# On other systems fork is missing, or unsafe with the system's libraries.
CAN_FORK = sys.platform == "linux"


def fork(work: Callable[[], tuple[bool, Any]], sender: Connection) -> Any:
    """Return a forked process that calls `work` and sends its result.

    A value that cannot be pickled is sent as its `repr`.
    """

    def work_and_send() -> None:
        completed, value = work()
        try:
            sender.send((completed, value))
        except (pickle.PicklingError, AttributeError, TypeError):
            sender.send((completed, repr(value)))

    sys.stdout.flush()
    sys.stderr.flush()
    process = multiprocessing.get_context("fork").Process(target=work_and_send)
    process.start()
    sender.close()
    return process


def run_in_child(function: Callable[[], Any]) -> Callable[[], Any]:
    """Start `function` in a forked process; return a function that waits for its result and returns it.

    The returned function raises the exception of `function`, or RuntimeError if the process has died. If processes
    cannot be forked, it is `function` itself.
    """
    if not CAN_FORK:
        return function

    def work() -> tuple[bool, Any]:
        try:
            return True, function()
        except Exception as error:
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:  # an exception with arguments of its own
                return False, RuntimeError(f"{type(error).__name__}: {error}")
            return False, error

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = fork(work, sender)

    def result() -> Any:
        try:
            succeeded, value = receiver.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"the process that checks the jobs ended with exit code {process.exitcode}") from None
        process.join()
        if not succeeded:
            raise value
        return value

    return result
