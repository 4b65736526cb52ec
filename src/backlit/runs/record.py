"""``run.json``: how a run was started, on what, and how it ended."""

import contextlib
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

from backlit.runs.files import atomic_write, write_json
from backlit.runs.git import git_state
from backlit.runs.read_record import read_record

# The packages whose versions a record names: a result depends on them.
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
# What a record keeps of each earlier attempt of a run that was resumed.
_ATTEMPT_KEYS = (
    "command",
    "overrides",
    "device",
    "precision",
    "world_size",
    "first_step",
    "stopped",
    "status",
    "started",
    "ended",
    "duration_s",
    "error",
)


def now() -> str:
    """Return the local time with its zone, in ISO 8601."""
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def _cpu_name() -> str:
    """Return the processor's name; results depend on it, since libraries choose their kernels by it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _program() -> list[str]:
    """Return the words by which the running command was started."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    if module is not None and module.name.startswith("backlit."):
        return ["python", "-m", module.name]
    return [Path(sys.argv[0]).name]


def _read_record(path: Path) -> dict[str, Any]:
    """Return what ``run.json`` holds; an empty dict if there is none that can be read."""
    try:
        content: dict[str, Any] = read_record(path)
    except (FileNotFoundError, ValueError):
        return {}
    return content


def _attempts(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the attempts of a run so far, a dict for each, from its record."""
    if not record:
        return []
    last = dict(record.get("extension", record))
    attempts: list[dict[str, Any]] = last.pop("attempts", [])
    total_s = last.get("duration_s")
    if total_s is not None:
        last["duration_s"] = round(total_s - sum(attempt.get("duration_s") or 0 for attempt in attempts), 3)
    if last.get("status") == "running":
        last["status"] = "interrupted"  # it had no chance to record that
    return [*attempts, {name: last.get(name) for name in _ATTEMPT_KEYS}]


class RunRecord:
    """Writes ``run.json``: the status is ``running`` from the first moment, then the way the run ended.

    A completed run that is trained longer stays completed, with its results, until it has completed again: this attempt
    is its ``extension`` until then.

    Args:
        directory: The run directory, which exists.
        seed: The seed of all random generators.
        overrides: The overrides of the command line, as Hydra writes them.
        arguments: The command's arguments, by which it can be resumed or repeated; None if it was called from Python.
        is_extension: Whether a completed run is trained longer.
        facts: What else is known at the start: device, precision, world_size.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        overrides: list[str],
        arguments: list[str] | None = None,
        is_extension: bool = False,
        **facts: Any,
    ) -> None:
        self.path = directory / "run.json"
        self._started_s = monotonic()
        earlier = _read_record(self.path)
        self._completed = earlier if is_extension else None
        attempts = _attempts(earlier)
        self._earlier_s = sum(attempt.get("duration_s") or 0 for attempt in attempts)
        # A logger that this attempt does without is continued by a later one.
        loggers = earlier.get("loggers", {}) | earlier.get("extension", {}).get("loggers", {})
        git, project, diff = git_state()
        if diff:
            with atomic_write(directory / "uncommitted.diff") as temporary:
                temporary.write_text(diff, encoding="utf-8", errors="surrogateescape")
        self.content: dict[str, Any] = {
            "status": "running",
            "command": shlex.join([*_program(), *sys.argv[1:]]),
            "arguments": arguments,
            "seed": seed,
            "overrides": overrides,
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
            "git": git,
            "project": project,
            "cpu": _cpu_name(),
            **facts,
            "host": platform.node(),
            "pid": os.getpid(),
            "started": now(),
            "ended": None,
            "duration_s": None,
            "error": None,
            "loggers": loggers,
            "attempts": attempts,
        }
        self._write()

    def _write(self) -> None:
        if self._completed is None or self.content["status"] == "completed":
            write_json(self.path, self.content)
        else:
            write_json(self.path, self._completed | {"extension": self.content})

    def add(self, **facts: Any) -> None:
        """Write facts that have become known since."""
        self.content |= facts
        self._write()

    def end(self, status: str, error: str | None = None) -> None:
        """Write how the run has ended.

        Args:
            status: ``completed``, ``interrupted`` (by a signal) or ``failed``.
            error: The signal, or what went wrong; None if the run has completed.
        """
        self.content |= {
            "status": status,
            "ended": now(),
            "duration_s": round(self._earlier_s + monotonic() - self._started_s, 3),
            "error": error,
        }
        self._write()


def finish_record(directory: Path, status: str, error: str, overrides: list[str]) -> bool:
    """Write how a run has ended that could not do so itself; return False, and write nothing, if it could."""
    path = directory / "run.json"
    content = _read_record(path) or {"overrides": overrides}  # the run died before it wrote
    attempt = content.get("extension", content)
    if attempt.get("status", "running") != "running":
        return False
    ended = now()
    duration = datetime.fromisoformat(ended) - datetime.fromisoformat(attempt.get("started") or ended)
    earlier_s = sum(one.get("duration_s") or 0 for one in attempt.get("attempts", []))
    total_s = round(earlier_s + duration.total_seconds(), 3)
    attempt |= {"status": status, "ended": ended, "duration_s": total_s, "error": error}
    write_json(path, content)
    return True


def rename_interrupted(directory: Path, status: str, error: str) -> None:
    """Write why a run was interrupted, and with which status, as somebody else knows it better.

    Nothing happens if the run has recorded something else.
    """
    path = directory / "run.json"
    content = _read_record(path)
    if content.get("status") == "interrupted":
        write_json(path, content | {"status": status, "error": error})
