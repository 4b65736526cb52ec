"""A run as its directory describes it."""

import csv
import functools
import io
import math
import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backlit.runs.bounded import MOST_CURVE_BYTES, read_text, read_yaml
from backlit.runs.files import is_locked
from backlit.runs.read_record import read_metrics, read_record
from backlit.text import first_line, flatten

# Keys of a config that say how a command came to a run, not how the run has learned.
NO_SETTINGS = ("ckpt_path", "packages")
# How busy the machine was is a curve, but no result: Lightning's DeviceStatsMonitor.
MACHINE_PREFIX = "DeviceStatsMonitor."
RUN_FILES = ("run.json", "metrics.csv", "metrics.json", "weights.pth")


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the records of a ``metrics.csv``, each with the metrics that it has; none if there is no such file.

    Raises:
        ValueError: If it is not what a run writes.
    """
    try:
        text = read_text(path, MOST_CURVE_BYTES)
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
    """Return the record with the best finite value of a metric; None if there is none.

    Among equal values it is the one with the lowest loss beside the metric (``val/loss`` beside ``val/acc``), and then
    the first. This is what *best* means everywhere: for ``best.ckpt``, in ``metrics.json``, in reports, for sweepers.

    Args:
        rows: Records of ``metrics.csv``, in their order.
        metric: The metric's name.
        mode: ``min`` or ``max``.
    """
    finite = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
    loss, sign = re.sub(r"[^/_]+$", "loss", metric), 1 if mode == "min" else -1

    def rank(row: Mapping[str, float]) -> tuple[float, float]:
        beside = row.get(loss, math.inf)
        return sign * row[metric], beside if math.isfinite(beside) else math.inf

    return min(finite, key=rank, default=None)


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

        A record that says ``running`` while no process has locked the directory means interrupted; a completed run
        whose optimized metric is nan has failed.
        """
        status: str = self.record["status"]
        if status == "completed" and math.isnan(self.metrics.get(self.metric[0], 0)):
            return "failed"
        return "interrupted" if status == "running" and not is_locked(self.directory) else status

    @property
    def attempt(self) -> dict[str, Any]:
        """Return the record of the last attempt: of a completed run that is trained longer, that of its extension."""
        attempt: dict[str, Any] = self.record.get("extension", self.record)
        return attempt

    @property
    def is_running(self) -> bool:
        """Return whether a process trains it; also true for a completed run that is trained longer."""
        return self.attempt["status"] == "running" and is_locked(self.directory)

    @property
    def runner(self) -> str:
        """Return who runs it, for a message: the process that resumes a run records itself when it starts to train."""
        pid, host = self.attempt.get("pid"), self.attempt.get("host")
        try:
            if pid is not None and host == platform.node():
                os.kill(pid, 0)  # no signal: is there such a process?
        except ProcessLookupError:
            return "another process"
        except PermissionError:
            pass
        return f"process {pid} on {host}"

    @property
    def logger_runs(self) -> dict[str, str]:
        """Return what the servers of its loggers call the run, by the loggers' names in the config."""
        found: dict[str, str] = self.record.get("loggers", {}) | self.attempt.get("loggers", {})
        return found

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
        text = read_yaml(path)
    except FileNotFoundError:
        return {}
    try:
        config = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} must be a run's config, got: {first_line(error)}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} must be a run's config, got something else")
    flat = {key: str(value) for key, value in flatten(config, ".").items()}
    flat.pop("output_dir", None)
    return flat


def clear_run(directory: Path) -> None:
    """Remove what a run has left that it cannot resume from; its log stays."""
    for name in ("checkpoints", "plots", "tensorboard"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in RUN_FILES:
        (directory / name).unlink(missing_ok=True)
