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

def end(*_):
    {saving}
    sys.exit({code})

signal.signal(signal.SIGTERM, end)
child = os.fork()
open(f"ready_{{os.getpid()}}", "w")
time.sleep(60)
"""


def start(code: int, monkeypatch: pytest.MonkeyPatch, *, saves: bool = True) -> "subprocess.Popen[bytes]":
    """Start a run of two processes that end with a code at SIGTERM, where ``scontrol`` writes what it gets."""
    Path("job/checkpoints").mkdir(parents=True)
    Path("scontrol").write_text('#!/bin/sh\necho "$@" > scontrol.out\n')
    Path("scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path.cwd()}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    Path("run.py").write_text(RUN.format(code=code, saving="open('job/checkpoints/last.ckpt', 'w')" if saves else ""))
    command = [sys.executable, "-P", "-m", "backlit.sweeps.slurm_job", "job", sys.executable, "run.py"]
    with open("log", "w") as log:
        process = subprocess.Popen(command, stdout=log)
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


def test_a_run_that_saves_nothing_is_not_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(143, monkeypatch, saves=False)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 143
    assert not Path("scontrol.out").exists()
    assert Path("log").read_text().startswith("error: the run has saved nothing until its time limit; a longer one: ")


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_that_of_the_run(ending: str, code: int) -> None:
    command = [
        sys.executable,
        "-m",
        "backlit.sweeps.slurm_job",
        "job",
        sys.executable,
        "-c",
        f"import os, sys; {ending}",
    ]
    assert subprocess.run(command, check=False).returncode == code
