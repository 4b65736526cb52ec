"""Which signal ended a run, and handlers that are restored."""

import signal

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from backlit.training.signals import (
    find_interrupt,
    hold_signals,
    interrupting_signal,
    note_signals,
    raise_system_exit,
    sigterm_ends_in_order,
)


def lightnings_exit() -> SystemExit:
    """Return what Lightning makes of Ctrl-C."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904
    except SystemExit as error:
        return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (KeyboardInterrupt(), "SIGINT"),
        (lightnings_exit(), "SIGINT"),
        (SystemExit(143), "SIGTERM"),
        (SIGTERMException(), "SIGTERM"),
        (SystemExit(1), None),
        (RuntimeError("no"), None),
        (None, None),
    ],
)
def test_the_signal_that_an_exception_comes_from_is_named(error: BaseException | None, name: str | None) -> None:
    assert interrupting_signal(error) == name


def test_sigterm_ends_in_order_only_within_the_context() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with sigterm_ends_in_order():
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == 143
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_held_signals_are_delivered_at_the_end(number: signal.Signals, error: type[BaseException]) -> None:
    done = False

    def be_interrupted() -> None:
        nonlocal done
        with hold_signals():
            signal.raise_signal(number)
            done = True

    with sigterm_ends_in_order():
        before = signal.getsignal(number)
        with pytest.raises(error):
            be_interrupted()
        assert signal.getsignal(number) is before
    assert done


def test_signals_are_noted() -> None:
    with sigterm_ends_in_order(), note_signals() as received:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGINT, signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_exits_with_the_code_that_shells_expect() -> None:
    with pytest.raises(SystemExit) as ended:
        raise_system_exit(signal.SIGTERM)
    assert ended.value.code == 143


@pytest.mark.parametrize(
    ("signalled", "code"),
    [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit(2), None), (OSError(), None)],
)
def test_the_signal_behind_a_librarys_error_is_found(signalled: BaseException, code: int | None) -> None:
    error = AttributeError("'NoneType' object has no attribute '_invalidate_flags_cache'")
    error.__context__ = signalled
    assert find_interrupt(error) == code
