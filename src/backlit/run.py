"""The run directory: where a run is, what it says of itself, and how its files are written and read."""

import contextlib
import csv
import errno
import functools
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any

import yaml
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


class ConfigError(ValueError):
    """What a user got wrong, told without a traceback; exit code 2.

    Args:
        problems: One line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


@contextlib.contextmanager
def whole_file(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes the place of `path` if nothing is raised.

    A reader sees the old file or the new one, never a part; after a power failure, too.

    Args:
        path: The file.
        previous: What the file was before gets this name.

    Raises:
        OSError: If it cannot be written; it names `path`.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # of a disk that lets nothing be taken away either
            temporary.unlink(missing_ok=True)


# What the system answers that has no room, lets nothing be written, or has lost its disk.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def is_of_disk(error: BaseException) -> bool:
    """Tell whether an exception says that a disk is full, or takes nothing."""
    return isinstance(error, OSError) and error.errno in _DISK


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
    return "SIGTERM" if type(error).__name__ == "SIGTERMException" else None


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


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the records of a ``metrics.csv``, each with the metrics that it has; none if it cannot be read."""
    try:
        with path.open(newline="") as file:
            return [
                {
                    name: int(value) if name in ("step", "epoch") else float(value)
                    for name, value in row.items()
                    if value
                }
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError):
        return []


def _is_alive(pid: int) -> bool:
    """Tell whether a process of this machine runs; one that has ended and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except (PermissionError, FileNotFoundError):  # somebody else's; or a system without /proc
        return True
    return state != "Z"


@dataclass(frozen=True)
class Run:
    """A run as its directory tells it.

    Args:
        directory: The run directory.
        record: What ``run.json`` holds.
    """

    directory: Path
    record: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> "Run | None":
        """Return the run in a directory, None if there is no ``run.json``.

        Raises:
            ValueError: If ``run.json`` is not what a run writes.
        """
        try:
            record = json.loads((directory / "run.json").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ValueError(f"{directory / 'run.json'} must be readable JSON, got: {error}") from None
        if not isinstance(record, dict) or not isinstance(record.get("status"), str):
            raise ValueError(f"{directory / 'run.json'} must be a run's record with a status, got something else")
        return cls(directory, record)

    @property
    def status(self) -> str:
        """Return how the run ended.

        One that says ``running`` while its process is gone was interrupted; one that completed with an optimised metric
        of nan has failed.
        """
        status: str = self.record["status"]
        if status == "completed" and math.isnan(self.metrics.get(self.metric[0], 0)):
            return "failed"
        is_here = self.record.get("host") == platform.node()
        pid = self.record.get("pid")
        is_gone = is_here and not (isinstance(pid, int) and _is_alive(pid))
        return "interrupted" if status == "running" and is_gone else status

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """Return the final metrics; empty if the run did not get so far."""
        try:
            metrics = json.loads((self.directory / "metrics.json").read_text())["metrics"]
            return {str(name): float(value) for name, value in metrics.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    @functools.cached_property
    def rows(self) -> list[dict[str, float]]:
        """Return the records of ``metrics.csv`` so far, each with the metrics that it has."""
        return read_rows(self.directory / "metrics.csv")

    @property
    def metric(self) -> tuple[str, str]:
        """Return the optimised metric and whether its ``min`` or ``max`` is best."""
        return self.record.get("optimized_metric", ""), self.record.get("optimized_mode", "min")

    @property
    def optimized(self) -> float | None:
        """Return what a sweeper compares: the best value of the optimised metric of a completed run."""
        return self.metrics.get(f"{self.metric[0]}_best")

    @property
    def best(self) -> tuple[float, float] | None:
        """Return the best value of the optimised metric so far and its epoch (from 1); None if there is none.

        A value that is not finite is none.
        """
        name, mode = self.metric
        values = [(row[name], row.get("epoch", 0) + 1) for row in self.rows if math.isfinite(row.get(name, math.nan))]
        if not values:
            return None
        return min(values, key=lambda pair: pair[0]) if mode == "min" else max(values, key=lambda pair: pair[0])


def flat_config(directory: Path) -> dict[str, str]:
    """Return the run's config with dotted keys; empty if there is none."""
    try:
        text = (directory / ".hydra" / "config.yaml").read_text()
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError):
        return {}
    flat: dict[str, str] = {}

    def add(node: Any, prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                add(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = str(value)

    add(config if isinstance(config, dict) else {}, "")
    flat.pop("output_dir", None)
    return flat


def brief(text: str) -> str:
    """Return a text with its long decimal fractions cut to four digits."""
    return re.sub(r"\d+\.\d{5,}(e[+-]?\d+)?", lambda match: f"{float(match[0]):.4g}", text)


def read_sweep(sweep_dir: Path) -> dict[str, Any]:
    """Return the content of ``sweep.json``: ``arguments`` of the command, ``started`` and ``jobs``, a dict a job.

    Raises:
        ValueError: If it is not what a sweep writes.
    """
    path = sweep_dir / "sweep.json"
    try:
        content: dict[str, Any] = {"jobs": []} | json.loads(path.read_text())
    except FileNotFoundError:
        return {"jobs": []}
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} must be readable JSON, got: {error}") from None
    whole = isinstance(content.get("arguments", []), list) and isinstance(content["jobs"], list)
    for job in content["jobs"] if whole else []:
        whole = whole and isinstance(job, dict) and isinstance(job.get("number"), int)
        whole = whole and isinstance(job.get("overrides"), list) and isinstance(job.get("directory"), str)
        # A job is in the sweep's directory, and nowhere else.
        whole = whole and Path(job["directory"]).name == job["directory"] != ".."
    if not whole:
        raise ValueError(f"{path} must be what a sweep writes: arguments; jobs with number, directory and overrides")
    return content


def clear(directory: Path) -> None:
    """Clear away what a run has left from which nothing can go on; its log stays."""
    for name in ("checkpoints", "plots", "tensorboard"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in ("run.json", "metrics.csv", "metrics.json", "weights.pth"):
        (directory / name).unlink(missing_ok=True)


def latest_run(outputs: Path, *, with_checkpoint: bool = True) -> Path:
    """Return the directory under `outputs`, a run's or a sweep's job's, that was written to last.

    Args:
        outputs: Where runs are put.
        with_checkpoint: Only one that has a checkpoint.

    Raises:
        FileNotFoundError: If there is none.
    """
    records = [*outputs.glob("*/runs/*/run.json"), *outputs.glob("*/sweeps/*/*/run.json")]
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        if not with_checkpoint or any(record.parent.glob("checkpoints/*.ckpt")):
            return record.parent
    raise FileNotFoundError(f"there is no run{' with a checkpoint' * with_checkpoint} in {outputs.resolve()}")


def quoted(value: str) -> str:
    """Return a string as a value that Hydra's override grammar reads as it is."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def from_here(path: Path) -> str:
    """Return a path as it may be typed in the working directory."""
    path = path.resolve()
    return shlex.quote(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path))


def table(metrics: dict[str, float]) -> str:
    """Return the metrics as a table, a row a metric and a column a stage, for a console or a log."""
    stages = [stage for stage in ("train", "val", "test") if any(name.startswith(f"{stage}/") for name in metrics)]
    staged = [name for name in metrics if name.split("/")[0] in stages and not name.endswith("_epoch")]
    rows = []
    for row in dict.fromkeys(name.split("/", 1)[1] for name in staged):
        values = [metrics.get(f"{stage}/{row}") for stage in stages]
        rows.append([row, *("" if value is None else f"{value:.4f}" for value in values)])
    # What somebody else's module logs under other names has a line of its own.
    rows += [[f"{name} {metrics[name]:.4f}"] for name in metrics if name.split("/")[0] not in stages]
    return text_of(["", *stages], rows)


def text_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, numbers to the right, as text for a console or a log."""
    grid = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        grid.add_column(name, justify="right" if index else "left")
    for row in rows:
        grid.add_row(*row)
    text = StringIO()
    Console(file=text, width=100).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
