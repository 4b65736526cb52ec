"""A run as its directory describes it."""

import csv
import functools
import io
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backlit.runs.read_record import read_metrics, read_record, read_text
from backlit.text import first_line, flatten

RUN_FILES = ("run.json", "metrics.csv", "metrics.json", "weights.pth")
# Levels of a config that are read.
_DEEPEST = 50


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the records of a ``metrics.csv``, each with the metrics that it has; none if there is no such file.

    Raises:
        ValueError: If it is not what a run writes.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        return []
    # The last line lacks its end if it was not written whole: the disk was full, or the process is writing it.
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    try:
        rows = [_parse_row(row) for row in reader]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {reader.line_num}, must be a record of a run: {str(error)[:100]}") from None
    if rows and len(set(reader.fieldnames or ())) < len(reader.fieldnames or ()):
        raise ValueError(f"{path} must have a name for each column, and none twice")
    return rows


def _parse_row(row: Mapping[str | None, Any]) -> dict[str, float]:
    """Return the numbers of a record.

    Raises:
        ValueError: If it has more columns than the header, no step, or a value that is no number.
    """
    found: dict[str, float] = {}
    for name, value in row.items():
        if name is None or not name.isprintable():
            raise ValueError("it has a value without a column" if name is None else f"it has a column {name!a}")
        if value:
            is_count = name in ("step", "epoch")
            number = int(value[:20]) if is_count else float(value)
            if is_count and not 0 <= number < 2**53:
                raise ValueError(f"{name} must be >= 0 and < 2**53, got {value[:40]!r}")
            found[name] = number
    if "step" not in found:
        raise ValueError("it has no step")
    return found


def best_row(rows: Iterable[Mapping[str, float]], metric: str, mode: str) -> Mapping[str, float] | None:
    """Return the record with the best finite value of a metric, the first of equal ones; None if there is none.

    This is what *best* means everywhere: in ``metrics.json``, in reports, and for sweepers.

    Args:
        rows: Records of ``metrics.csv``, in their order.
        metric: The metric's name.
        mode: ``min`` or ``max``.
    """
    finite = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
    choose = min if mode == "min" else max
    return choose(finite, key=lambda row: row[metric], default=None)


def _is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs; a zombie does not."""
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
    """A run as its directory describes it.

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
            ValueError: If ``run.json`` or ``metrics.json`` is not what a run writes.
        """
        try:
            record = read_record(directory / "run.json")
        except FileNotFoundError:
            return None
        run = cls(directory, record)
        _ = run.metrics  # reads it, so that no later use raises
        return run

    @property
    def status(self) -> str:
        """Return how the run ended.

        A record that says ``running`` while its process has ended means interrupted; a completed run whose optimized
        metric is nan has failed.
        """
        status: str = self.record["status"]
        if status == "completed" and math.isnan(self.metrics.get(self.metric[0], 0)):
            return "failed"
        is_here = self.record.get("host") == platform.node()
        pid = self.record.get("pid")
        has_ended = is_here and not (isinstance(pid, int) and _is_alive(pid))
        return "interrupted" if status == "running" and has_ended else status

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """Return the final metrics; empty if the run has none yet."""
        return read_metrics(self.directory / "metrics.json")

    @functools.cached_property
    def rows(self) -> list[dict[str, float]]:
        """Return the records of ``metrics.csv`` so far, each with the metrics that it has.

        Raises:
            ValueError: If it is not what a run writes.
        """
        return read_rows(self.directory / "metrics.csv")

    @property
    def metric(self) -> tuple[str, str]:
        """Return the optimized metric and whether its ``min`` or ``max`` is best."""
        return self.record.get("optimized_metric", ""), self.record.get("optimized_mode", "min")

    @property
    def optimized(self) -> float | None:
        """Return what a sweeper compares: the best value of the optimized metric of a completed run."""
        return self.metrics.get(f"{self.metric[0]}_best")

    @property
    def best(self) -> tuple[float, float] | None:
        """Return the best finite value of the optimized metric so far and its epoch (from 1); None if there is none."""
        name, mode = self.metric
        row = best_row(self.rows, name, mode)
        return None if row is None else (row[name], row.get("epoch", 0) + 1)


def flat_config(directory: Path) -> dict[str, str]:
    """Return the run's config with dotted keys; empty if there is none.

    Raises:
        ValueError: If it is not what a run writes.
    """
    path, loader = directory / ".hydra" / "config.yaml", getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = read_text(path)
    except FileNotFoundError:
        return {}
    try:
        _check_simple(yaml.parse(text, Loader=loader))
        config = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} must be a run's config, got: {first_line(error)}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} must be a run's config, got something else")
    flat = {key: str(value) for key, value in flatten(config, ".").items()}
    flat.pop("output_dir", None)
    return flat


def _check_simple(events: Iterable[yaml.Event]) -> None:
    """Raise `ValueError` at an alias, a few lines of which can stand for billions of values, or at deep nesting.

    PyYAML's loader in C ends the process when the stack is full. A run's config has neither.
    """
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("an alias")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels")


def clear_run(directory: Path) -> None:
    """Remove what a run has left that it cannot resume from; its log stays."""
    for name in ("checkpoints", "plots", "tensorboard"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in RUN_FILES:
        (directory / name).unlink(missing_ok=True)
