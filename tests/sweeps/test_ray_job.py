"""What an actor of Ray runs, without a Ray."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import processes_of_session, wait_until

pytestmark = pytest.mark.process

# Two processes, as of a run with two ranks, of which each writes that it saves its state.
RUN = """
import os, signal, sys, time
def save(*_):
    open(f"saved_{os.getpid()}", "w")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
child = os.fork()
open(f"ready_{os.getpid()}", "w")
time.sleep(60)
"""
WITHIN = [sys.executable, "-P", "-m", "backlit.sweeps.ray_job"]


def start(actor: int) -> "subprocess.Popen[bytes]":
    Path("run.py").write_text(RUN)
    return subprocess.Popen([*WITHIN, str(actor), sys.executable, "run.py"], start_new_session=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_processes_of_a_job_and_its_code_comes_back(number: signal.Signals) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (number,))  # as Ray does
    try:
        process = start(os.getpid())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    wait_until(lambda: len(list(Path().glob("ready_*"))) == 2)
    os.killpg(process.pid, number)
    assert process.wait(30) == 143
    wait_until(lambda: len(list(Path().glob("saved_*"))) == 2)


def test_a_job_saves_its_state_when_its_actor_is_gone() -> None:
    # Something that starts the job and is gone at once.
    Path("run.py").write_text(RUN)
    command = [*WITHIN, "{}", sys.executable, "run.py"]
    actor = f"import os, subprocess; c = {command}; c[4] = str(os.getpid())\n"
    actor += "print(subprocess.Popen(c, start_new_session=True).pid)\n"
    actor += "import pathlib, time\nwhile len(list(pathlib.Path().glob('ready_*'))) < 2: time.sleep(0.01)"
    started = subprocess.run([sys.executable, "-c", actor], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    session = int(started.stdout)
    try:
        wait_until(lambda: len(list(Path().glob("saved_*"))) == 2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
    wait_until(lambda: not processes_of_session(session))


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_that_of_the_job(ending: str, code: int) -> None:
    command = [*WITHIN, str(os.getpid()), sys.executable, "-c", f"import os, sys; {ending}"]
    assert subprocess.run(command, check=False).returncode == code
