"""What a run writes down of itself, into its ``run.json``: how it was started, on what, and how it ended."""

import contextlib
import functools
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from backlit.run import whole_file, write_json

PACKAGES = (
    "backlit",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "tensorboard",
)


def now() -> str:
    """Return the time, with its zone."""
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def interrupted_by(error: BaseException | None) -> str | None:
    """Return the signal, SIGINT or SIGTERM, that an exception comes from, or None."""
    # Lightning turns Ctrl-C into a SystemExit, SIGTERM into an exception of its own.
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    ):
        return "SIGINT"
    exits = isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM
    return "SIGTERM" if exits or type(error).__name__ == "SIGTERMException" else None


def exit_on_sigterm(number: int, frame: FrameType | None = None) -> None:
    """End this process in order, as Ctrl-C would.

    Raises:
        SystemExit: With the code that shells expect of a program that a signal ended.
    """
    sys.exit(128 + number)


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Let SIGTERM do that within this context; where it cannot be taken, in a thread, nothing changes.

    Afterwards Ctrl-C, too, does what it did before: Lightning ignores it from the first time on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, exit_on_sigterm)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _git(directory: Path, member: Path | None = None) -> tuple[dict[str, Any] | None, str]:
    """Return commit and dirtiness of the git checkout that a directory lies in, and what is changed in it.

    None and nothing where there is no checkout, or if it does not have the file `member`.
    """

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        if member is not None:
            # Code that lies in somebody else's checkout, in a virtual environment say, has no commit of its own.
            ask("ls-files", "--error-unmatch", str(member))
        top, commit = ask("rev-parse", "--show-toplevel", "HEAD").splitlines()
        changed = ask("status", "--porcelain")
        diff = f"{changed}\n{ask('diff', 'HEAD')}" if changed else ""
        return {"checkout": top, "commit": commit, "dirty": bool(changed)}, diff
    except (OSError, ValueError, subprocess.SubprocessError):
        return None, ""


@functools.cache
def checkouts() -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
    """Return the git checkouts of backlit and, if it is another one, of the working directory; and what is changed.

    Asked once: a process runs the code that it has imported.
    """
    here = Path(__file__)
    (git, diff), (project, own_diff) = _git(here.parent, here), _git(Path.cwd())
    if git and project and git["checkout"] == project["checkout"]:
        return git, None, diff
    return git, project, diff + own_diff


def _cpu() -> str:
    """Return the processor's name; results depend on it, since libraries choose their kernels by it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _program() -> list[str]:
    """Return how the command that runs was typed."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is not None and module.name.startswith("backlit."):
        return ["python", "-m", module.name]
    return [Path(sys.argv[0]).name]


def _attempts(path: Path) -> list[dict[str, Any]]:
    """Return, for a run that goes on, how it went before: what ``run.json`` said then, a dict for each time."""
    try:
        before = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return []
    attempts: list[dict[str, Any]] = before.pop("attempts", [])
    took = before.get("duration_s")
    if took is not None:
        before["duration_s"] = round(took - sum(attempt["duration_s"] or 0 for attempt in attempts), 3)
    if before.get("status") == "running":
        before["status"] = "interrupted"  # without a chance to say so
    told = ("command", "overrides", "world_size", "first_step", "status", "started", "ended", "duration_s", "error")
    return [*attempts, {name: before.get(name) for name in told}]


class RunRecord:
    """Keeps ``run.json`` true: ``running`` from the first moment, then how the run ended.

    Args:
        directory: The run directory, which exists.
        seed: What everything random was seeded with.
        overrides: What the user changed on the command line, as Hydra writes it.
        arguments: The command's arguments, from which it can go on or be repeated; None if it was called from Python.
        facts: More that is known at the start: device, precision, world_size.
    """

    def __init__(
        self, directory: Path, *, seed: int, overrides: list[str], arguments: list[str] | None = None, **facts: Any
    ) -> None:
        self.path = directory / "run.json"
        self._begin = monotonic()
        attempts = _attempts(self.path)
        self._before = sum(attempt["duration_s"] or 0 for attempt in attempts)
        git, project, diff = checkouts()
        if diff:
            with whole_file(directory / "uncommitted.diff") as temporary:
                temporary.write_text(diff)
        self.content: dict[str, Any] = {
            "status": "running",
            "command": shlex.join([*_program(), *sys.argv[1:]]),
            "arguments": arguments,
            "seed": seed,
            "overrides": overrides,
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
            "git": git,
            "project": project,
            "cpu": _cpu(),
            **facts,
            "host": platform.node(),
            "pid": os.getpid(),
            "started": now(),
            "ended": None,
            "duration_s": None,
            "error": None,
            "attempts": attempts,
        }
        write_json(self.path, self.content)

    def add(self, **facts: Any) -> None:
        """Write down what has become known meanwhile."""
        self.content |= facts
        write_json(self.path, self.content)

    def end(self, error: BaseException | None = None, signal: str | None = None) -> None:
        """Write down the end: completed, interrupted (Ctrl-C, SIGTERM) or failed.

        Args:
            error: What ended the run, if it did not complete.
            signal: The signal that it comes from, where `interrupted_by` cannot tell.
        """
        signal = signal or interrupted_by(error)
        self.content |= {
            "status": "completed" if error is None else "interrupted" if signal else "failed",
            "ended": now(),
            "duration_s": round(self._before + monotonic() - self._begin, 3),
            "error": None if error is None else signal or f"{type(error).__name__}: {error}",
        }
        write_json(self.path, self.content)


def end_record(directory: Path, status: str, error: str, overrides: list[str]) -> bool:
    """Write down, for a run that could not do it itself, how it ended; return False if it could."""
    path = directory / "run.json"
    content: dict[str, Any] = {"overrides": overrides}
    with contextlib.suppress(FileNotFoundError, ValueError):  # of a run that died before it wrote, or while it did
        content = json.loads(path.read_text())
    if content.get("status", "running") != "running":
        return False
    ended = now()
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(content.get("started", ended))
    write_json(path, content | {"status": status, "ended": ended, "duration_s": took.total_seconds(), "error": error})
    return True
