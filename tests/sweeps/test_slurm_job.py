"""What a Slurm job runs, without a Slurm."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import wait_until

pytestmark = pytest.mark.process

RUN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
child = os.fork()
open(f"ready_{{os.getpid()}}", "w")
time.sleep(60)
"""


def start(code: int, monkeypatch: pytest.MonkeyPatch) -> "subprocess.Popen[bytes]":
    """Start a run of two processes that end with a code at SIGTERM, where ``scontrol`` writes what it gets."""
    Path("scontrol").write_text('#!/bin/sh\necho "$@" > scontrol.out\n')
    Path("scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path.cwd()}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    Path("run.py").write_text(RUN.format(code=code))
    command = [sys.executable, "-P", "-m", "backlit.sweeps.slurm_job", sys.executable, "run.py"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(list(Path().glob("ready_*"))) == 2)
    return process


def test_a_job_whose_time_limit_comes_ends_its_run_and_is_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(143, monkeypatch)
    process.send_signal(signal.SIGTERM)  # Slurm sends this one to all processes; the run decides
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 143
    assert Path("scontrol.out").read_text() == "requeue 17\n"


def test_a_run_that_completes_in_spite_of_the_limit_is_not_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(0, monkeypatch)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert not Path("scontrol.out").exists()


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_that_of_the_run(ending: str, code: int) -> None:
    command = [sys.executable, "-m", "backlit.sweeps.slurm_job", sys.executable, "-c", f"import os, sys; {ending}"]
    assert subprocess.run(command, check=False).returncode == code
