import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from backlit.runs.run import Run
from backlit.sweeps.screen import REDRAW_INTERVAL_S, Screen
from tests.helpers.sweeps import make_job, write_run


def test_without_a_terminal_each_start_and_end_is_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = make_job(write_run(tmp_path / "0", ["lr=1"], [0.5, 0.25]), ("lr=1",))
    with caplog.at_level(logging.INFO), Screen(done=0) as screen:
        screen.started(job)
        screen.redraw([job], 1)
        screen.ended(job, Run.read(job.directory), None)
        job.checkpoint = Path("last.ckpt")
        screen.started(job)
        screen.ended(job, None, "killed by SIGKILL")
    assert caplog.messages == [
        "job 0 lr=1  starts",
        "job 0 lr=1  completed  1.5 s  val/loss 0.2500",
        "job 0 lr=1  resumes from its last checkpoint",
        "job 0 lr=1  failed: killed by SIGKILL",
    ]


def test_a_job_that_may_wait_elsewhere_is_in_the_queue(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Screen(0, is_queued=True) as screen:
        screen.started(make_job(overrides=("lr=1",)))
    assert caplog.messages == ["job 0 lr=1  is in the queue"]


def test_a_terminal_shows_epoch_and_metric_of_each_running_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80)
    monkeypatch.setattr("backlit.sweeps.screen.get_console", lambda: console)
    planned = {"planned_epochs": 4, "planned_steps": 40, "first_step": 0}
    job = make_job(write_run(tmp_path / "0", ["lr=1"], [0.5, 0.25], status="running", **planned), ("lr=1",))
    waiting = make_job(tmp_path / "1", ("lr=2",))
    with Screen(done=1) as screen:
        screen.redraw([job, waiting], 0)
        drawn = terminal.getvalue()
        screen.redraw([job], 1)
        assert terminal.getvalue() == drawn, f"a redraw within {REDRAW_INTERVAL_S} s"
    assert "epoch 2/4" in drawn
    assert "val/loss 0.2500" in drawn
    assert "starting" in drawn
    assert "1/3" in drawn
