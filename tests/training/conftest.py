"""TensorBoard reads the event files of a directory in the order of their names, which have seconds."""

import itertools
import time

import pytest
from tensorboard.summary.writer import event_file_writer


@pytest.fixture(autouse=True)
def event_files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each event file be a second younger than the previous one, as those of two commands are."""
    now = itertools.count(int(time.time()))
    clock = type("Clock", (), {"time": lambda: next(now), "sleep": time.sleep})
    monkeypatch.setattr(event_file_writer, "time", clock)
