"""The commands as processes of their own, forked from one that has imported what they import: seconds sooner.

What starts with the interpreter itself (the console scripts, ``python -m``, the processes that Lightning starts) is
tested as it is typed, by the fixture `run_script`.
"""

import atexit
import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from backlit.sweeps.check_jobs import PRELOADED

_CONTEXT = multiprocessing.get_context("forkserver")
_COMMANDS = [f"backlit.{name}" for name in ("evaluate", "export", "predict", "report")]
_CONTEXT.set_forkserver_preload([*PRELOADED, *_COMMANDS, "backlit.data.readers", "optuna"])


class Started:
    """A command that runs, in a session of its own, as a shell has it.

    Args:
        command: A console script of backlit and its arguments.
        directory: Where it works.
        together: Join stdout and stderr in one stream.
        stdin: What it reads from its standard input.
    """

    def __init__(self, *command: str, directory: Path, together: bool = False, stdin: str = "") -> None:
        self.command = list(command)
        outside = tempfile.mkdtemp(dir=directory.parent)  # tests look at what a command leaves where it works
        self._files = [Path(outside, name) for name in ("stdout", "stdout" if together else "stderr")]
        files = [str(Path(outside, "stdin")), *map(str, self._files)]
        Path(files[0]).write_text(stdin)
        self._process = _CONTEXT.Process(target=_work, args=(self.command, str(directory), dict(os.environ), files))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 120) -> int:
        """Wait for the end and return the exit code.

        Raises:
            AssertionError: If it does not end; where it and the processes that it has started stand is on its stderr.
        """
        self._process.join(timeout)
        if self.returncode is None:
            for pid in processes_started_by(self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGABRT)  # faulthandler writes the stack
            self._process.join(10)
            raise AssertionError(f"not ended in {timeout} s:\n{self.output()}\n{self._files[1].read_text()}")
        return self.returncode

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Wait until the output contains a text."""
        deadline = time.monotonic() + timeout
        while text not in self.output():
            assert self.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.01)

    def output(self) -> str:
        """Return what the command has printed on stdout so far."""
        return self._files[0].read_text() if self._files[0].exists() else ""

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for the end and return what was printed on stdout and stderr."""
        self.wait(timeout)
        return self.output(), self._files[1].read_text()


def wait_until(condition: Callable[[], object], timeout: float = 60, process: Started | None = None) -> None:
    """Wait until a condition holds.

    Args:
        condition: Is asked every 10 ms.
        timeout: Seconds until the test fails.
        process: Fail at once, with its output, if it ends before.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert process is None or process.poll() is None, process.output()
        assert time.monotonic() < deadline, "the condition does not hold"
        time.sleep(0.01)


def processes_by_arguments(text: str) -> list[int]:
    """Return the processes whose command line contains a text, without zombies."""
    return [int(pid) for pid, state, arguments in _list_processes("args") if text in arguments and state[0] != "Z"]


def processes_of_session(session: int) -> list[int]:
    """Return the processes of a session, without zombies."""
    return [int(pid) for pid, state, sid in _list_processes("sid") if int(sid) == session and state[0] != "Z"]


def processes_started_by(pid: int) -> list[int]:
    """Return the processes that a process has started, and they in turn, the last ones first, and itself."""
    children = [int(child) for child, _, parent in _list_processes("ppid") if int(parent) == pid]
    return [*(found for child in children for found in processes_started_by(child)), pid]


def _list_processes(column: str) -> list[list[str]]:
    command = ["ps", "-wweo", f"pid=,stat=,{column}="]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [[field.strip() for field in line.split(maxsplit=2)] for line in listed.splitlines()]


def listening_addresses(pid: int) -> set[str]:
    """Return the addresses on which a process listens for TCP connections, as the kernel writes them."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(link))
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    # The fourth column is the state, of which 0A is LISTEN.
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


def processes_with_files_below(directory: Path) -> list[int]:
    """Return the other processes that have a file below a directory open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                links = [os.readlink(link) for link in (process / "fd").iterdir()]
            except OSError:
                continue
            if any(link.startswith(str(directory)) for link in links):
                found.append(int(process.name))
    return found


def _work(command: list[str], directory: str, environment: dict[str, str], files: list[str]) -> None:
    """Become the command."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # multiprocessing ignores it
    os.dup2(os.open(files[0], os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0)  # multiprocessing closes the first one
    for number, file in enumerate(files[1:], start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment, PYTHONFAULTHANDLER="1")
    faulthandler.enable(2)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    try:
        importlib.import_module(command[0].replace("-", ".")).main()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
