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
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table


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
