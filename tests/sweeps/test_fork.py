import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from backlit.sweeps.fork import run_in_child

pytestmark = pytest.mark.process

# A result that no pipe holds: who sends it waits until it is read.
LARGE = bytes(10**6)


def call_in_child(function: Callable[[], Any]) -> Any:
    with run_in_child(function) as result:
        return result()


def test_a_child_returns_its_result() -> None:
    assert call_in_child(os.getppid) == os.getpid()
    assert call_in_child(lambda: LARGE) == LARGE


def test_the_error_of_a_child_is_raised() -> None:
    def fail() -> None:
        raise KeyError("lr")

    with pytest.raises(KeyError, match="lr"):
        call_in_child(fail)


class OwnError(Exception):
    """An error that pickle cannot make again: its text alone is remembered."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def test_the_error_of_a_child_may_be_of_a_class_of_the_users() -> None:
    def fail() -> None:
        raise OwnError("bad", "no reason")

    with pytest.raises(RuntimeError, match=r"^OwnError: bad: no reason$"):
        call_in_child(fail)


class Deadly:
    """Kills the process that sends it."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("die", "code"), [(lambda: os._exit(7), 7), (Deadly, -9)])
def test_a_child_that_dies_is_reported(die: Callable[[], Any], code: int) -> None:
    with pytest.raises(RuntimeError, match=rf"^the process that checks the jobs ended with exit code {code}$"):
        call_in_child(die)


def test_a_child_that_dies_is_not_waited_for_while_another_process_has_its_pipe() -> None:
    reader, writer = os.pipe()

    def leave_a_process_and_die() -> None:
        if os.fork():
            os._exit(7)
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)

    with pytest.raises(RuntimeError, match="ended with exit code 7"):
        call_in_child(leave_a_process_and_die)
    os.close(writer)
    os.close(reader)


def test_ctrl_c_in_a_terminal_is_left_to_the_parent() -> None:
    def interrupt() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 7

    assert call_in_child(interrupt) == 7


@pytest.mark.parametrize("work", [lambda: LARGE, threading.Event().wait])
def test_no_child_is_left_if_its_result_is_not_wanted(work: Callable[[], Any]) -> None:
    with pytest.raises(KeyboardInterrupt), run_in_child(work):
        signal.raise_signal(signal.SIGINT)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("work", [lambda: LARGE, threading.Event().wait])
def test_a_child_ends_when_its_parent_is_killed(work: Callable[[], Any]) -> None:
    reader, writer = os.pipe()  # open as long as one of the processes lives

    def write_and_work() -> Any:
        os.write(writer, b"x")
        return work()

    def start_and_wait() -> None:
        with run_in_child(write_and_work):
            signal.pause()

    parent = multiprocessing.get_context("fork").Process(target=start_and_wait)
    parent.start()
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    parent.kill()
    assert select.select([reader], [], [], 60)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)
    parent.join()


def test_without_fork_the_function_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backlit.sweeps.fork.CAN_FORK", False)
    assert call_in_child(os.getpid) == os.getpid()
