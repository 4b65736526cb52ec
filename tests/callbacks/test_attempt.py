import errno
import logging

import pytest

from backlit.callbacks.attempt import Attempts


def test_an_error_is_one_warning_with_its_reason_however_often_it_occurs(caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            with attempts.attempt("the picture"):
                raise ZeroDivisionError("no samples\nand more")
        with attempts.attempt("the graph"):
            raise RuntimeError
    assert caplog.messages == [
        "the picture was not written: ZeroDivisionError: no samples",
        "the graph was not written: RuntimeError: RuntimeError",
    ]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_full_disk_and_a_signal_are_no_matter_of_a_picture(error: BaseException) -> None:
    with pytest.raises(type(error)), Attempts().attempt("the picture"):
        raise error
