import os

import pytest

from backlit.sweeps.fork import run_in_child

pytestmark = pytest.mark.process


def test_a_child_returns_its_result() -> None:
    assert run_in_child(lambda: os.getppid())() == os.getpid()


def test_the_error_of_a_child_is_raised() -> None:
    def fail() -> None:
        raise KeyError("lr")

    with pytest.raises(KeyError, match="lr"):
        run_in_child(fail)()


class OwnError(Exception):
    """An error that pickle cannot make again: its text alone is remembered."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def test_the_error_of_a_child_may_be_of_a_class_of_the_users() -> None:
    def fail() -> None:
        raise OwnError("bad", "no reason")

    with pytest.raises(RuntimeError, match=r"^OwnError: bad: no reason$"):
        run_in_child(fail)()


def test_a_child_that_dies_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"^the process that checks the jobs ended with exit code 7$"):
        run_in_child(lambda: os._exit(7))()


def test_without_fork_the_function_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backlit.sweeps.fork.CAN_FORK", False)
    assert run_in_child(os.getpid)() == os.getpid()
