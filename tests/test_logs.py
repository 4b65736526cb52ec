"""The log file of a run, on a disk that is full."""

import logging

import pytest

from backlit.logs import LogFile


def test_a_full_disk_takes_no_log_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogFile("/dev/full")
    try:
        handler.handle(logging.makeLogRecord({"msg": "epoch 1"}))
        assert capsys.readouterr().err == ""
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
        assert "Traceback" in capsys.readouterr().err  # a wrong call is ours to see
    finally:
        with pytest.raises(OSError, match="No space left"):
            handler.close()
