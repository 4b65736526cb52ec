"""The commands as processes of their own, forked from one that has imported what they import: seconds sooner.

What starts with the interpreter itself (the console scripts, ``python -m``, the processes that Lightning starts) is
tested as it is typed, by `tests.conftest.run_script`.
"""

import atexit
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from backlit.sweep import _PRELOADED

_CONTEXT = multiprocessing.get_context("forkserver")
_COMMANDS = [f"backlit.{name}" for name in ("evaluate", "export", "predict", "report")]
_CONTEXT.set_forkserver_preload([*_PRELOADED, *_COMMANDS, "backlit.data.files", "onnxruntime", "onnxscript", "optuna"])


class Started:
    """A command that runs, in a session of its own, as a shell has it.

    Args:
        command: A console script of backlit's and its arguments.
        directory: Where it works.
        together: Let stdout and stderr be one stream.
    """

    def __init__(self, *command: str, directory: Path, together: bool = False) -> None:
        self.command = list(command)
        outside = tempfile.mkdtemp(dir=directory.parent)  # tests look at what a command leaves where it works
        self._files = [Path(outside, name) for name in ("stdout", "stdout" if together else "stderr")]
        files = [str(file) for file in self._files]
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
        """Wait for the end and return the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.command, timeout, self.output())
        return self.returncode

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Wait until the output has some text."""
        deadline = time.monotonic() + timeout
        while text not in self.output():
            assert self.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.01)

    def output(self) -> str:
        """Return what it has printed on stdout so far."""
        return self._files[0].read_text() if self._files[0].exists() else ""

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for the end and return what was printed on stdout and stderr."""
        self.wait(timeout)
        return self.output(), self._files[1].read_text()


def _work(command: list[str], directory: str, environment: dict[str, str], files: list[str]) -> None:
    """Be the command."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # multiprocessing ignores it
    sys.stdin.close()
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    try:
        importlib.import_module(command[0].replace("-", ".")).main()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
