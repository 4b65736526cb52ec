"""Jobs that start as commands, where processes cannot be forked; forked jobs that run are tested as real sweeps."""

import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from backlit.sweeps.job_process import JobProcess
from tests.helpers.processes import wait_until
from tests.helpers.sweeps import make_job

pytestmark = pytest.mark.process


def start_command(program: str, monkeypatch: pytest.MonkeyPatch) -> JobProcess:
    """Start a Python program as the command of a job with two GPUs."""
    Path("program.py").write_text(program)
    monkeypatch.setattr("backlit.sweeps.job_process.CAN_FORK", False)
    monkeypatch.setattr("sys.argv", ["program.py"])
    main = types.ModuleType("__main__")
    main.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", main)
    job = make_job(Path("it's").absolute())
    job.visible_gpus = ["4", "7"]
    unused: Any = None
    return JobProcess(job, ["optimizer.lr=1"], 3, unused)


@pytest.mark.parametrize(
    ("ending", "completed", "value"),
    [
        ("", True, None),
        ("sys.exit(3)", False, "ended with exit code 3"),
        ("os.kill(os.getpid(), 15)", False, "killed by SIGTERM"),
        ("os.kill(os.getpid(), 9)", False, "killed by SIGKILL (if nobody sent it, by the system, out of memory)"),
    ],
)
def test_the_exit_code_of_a_command_is_the_end_of_its_job(
    ending: str, completed: bool, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_command(f"import os, sys; {ending}", monkeypatch)
    wait_until(process.has_ended)
    assert process.end() == (completed, value)


def test_a_command_gets_the_directory_the_gpus_and_the_threads_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")  # the sweep itself runs inside another distributed program
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WORLD_SIZE")
    program = f"import os, sys; print(sys.argv[1:], [os.environ.get(name) for name in {names}])"
    process = start_command(program, monkeypatch)
    wait_until(process.has_ended)
    process.end()
    directory = str(process.job.directory).replace("'", "\\'")
    arguments = ["optimizer.lr=1", f"hydra.run.dir='{directory}'"]
    assert process.job.log_file.read_text() == f"{arguments} {['4,7', '3', None]}\n"


def test_a_signal_reaches_all_processes_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, time; child = os.fork(); print(os.getpid(), flush=True); time.sleep(1000)"
    process = start_command(program, monkeypatch)
    log = process.job.log_file
    wait_until(lambda: len(log.read_text().split()) == 2)
    process.send_signal(signal.SIGTERM)
    wait_until(process.has_ended)
    assert process.end() == (False, "killed by SIGTERM")
    for pid in map(int, log.read_text().split()):
        wait_until(lambda pid=pid: not is_running(pid))  # type: ignore[misc]


def test_a_job_that_has_not_begun_is_killed_by_any_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    # Such a process is not a session yet, which a signal could be sent to.
    monkeypatch.setattr("backlit.sweeps.job_process.run_forked_job", lambda *arguments: signal.pause())
    unused: Any = None
    process = JobProcess(make_job(), [], 1, unused)
    process.send_signal(signal.SIGINT)
    assert process.end() == (False, "killed by SIGKILL (if nobody sent it, by the system, out of memory)")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
