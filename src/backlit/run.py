"""The run directory: where a run is, what it says of itself, and how its files are written."""

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

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


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes the place of `path` if nothing is raised.

    A reader sees the old file or the new one, never a part.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    with whole_file(path) as temporary:
        temporary.write_text(text)


def new_directory(wanted: Path) -> Path:
    """Make and return the directory `wanted`, or the first free one of ``wanted_2``, ``wanted_3`` and so on.

    Raises:
        OSError: If it cannot be made.
    """
    path, number = wanted, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not path.is_dir():
                raise
            number += 1
            path = wanted.with_name(f"{wanted.name}_{number}")


def _git() -> dict[str, Any] | None:
    """Return commit and dirtiness of the code that runs, or None where it is not in a git checkout."""

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # Code that lies in somebody else's checkout, in a virtual environment say, has no commit of its own.
        ask("ls-files", "--error-unmatch", __file__)
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")


def interrupted_by(error: BaseException | None) -> str | None:
    """Return the signal, SIGINT or SIGTERM, that an exception comes from, or None."""
    # Lightning turns Ctrl-C into a SystemExit, SIGTERM into an exception of its own.
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    ):
        return "SIGINT"
    return "SIGTERM" if type(error).__name__ == "SIGTERMException" else None


class RunRecord:
    """Keeps ``run.json`` true: ``running`` from the first moment, then how the run ended.

    Args:
        directory: The run directory, which exists.
        seed: What everything random was seeded with.
        overrides: What the user changed on the command line, as Hydra writes it.
        facts: More that is known at the start: device, precision, world_size.
    """

    def __init__(self, directory: Path, *, seed: int, overrides: list[str], **facts: Any) -> None:
        self.path = directory / "run.json"
        self._begin = monotonic()
        self.content: dict[str, Any] = {
            "status": "running",
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": seed,
            "overrides": overrides,
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
            "git": _git(),
            **facts,
            "started": _now(),
            "ended": None,
            "duration_s": None,
            "error": None,
        }
        write_json(self.path, self.content)

    def end(self, error: BaseException | None = None) -> None:
        """Write down the end: completed, interrupted (Ctrl-C, SIGTERM) or failed."""
        signal = interrupted_by(error)
        self.content |= {
            "status": "completed" if error is None else "interrupted" if signal else "failed",
            "ended": _now(),
            "duration_s": round(monotonic() - self._begin, 3),
            "error": None if error is None else signal or f"{type(error).__name__}: {error}",
        }
        write_json(self.path, self.content)


def latest_run(outputs: Path) -> Path:
    """Return the directory under `outputs`, a run's or a sweep's job's, that was written to last and has a checkpoint.

    Raises:
        FileNotFoundError: If there is none.
    """
    records = [*outputs.glob("*/runs/*/run.json"), *outputs.glob("*/sweeps/*/*/run.json")]
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        if any(record.parent.glob("checkpoints/*.ckpt")):
            return record.parent
    raise FileNotFoundError(f"there is no run with a checkpoint in {outputs.resolve()}")


def from_here(path: Path) -> str:
    """Return a path as it may be typed in the working directory."""
    path = path.resolve()
    return shlex.quote(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path))


def table(metrics: dict[str, float]) -> str:
    """Return the metrics as a table, a row a metric and a column a stage, for a console or a log."""
    grid = Table(box=box.SIMPLE_HEAD)
    grid.add_column("")
    stages = [stage for stage in ("train", "val", "test") if any(name.startswith(f"{stage}/") for name in metrics)]
    for stage in stages:
        grid.add_column(stage, justify="right")
    staged = [name for name in metrics if name.split("/")[0] in stages and not name.endswith("_epoch")]
    rows = dict.fromkeys(name.split("/", 1)[1] for name in staged)
    for row in rows:
        values = [metrics.get(f"{stage}/{row}") for stage in stages]
        grid.add_row(row, *("" if value is None else f"{value:.4f}" for value in values))
    # What somebody else's module logs under other names has a line of its own.
    for name in metrics:
        if name.split("/")[0] not in stages:
            grid.add_row(f"{name} {metrics[name]:.4f}")
    text = StringIO()
    Console(file=text, width=100).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
