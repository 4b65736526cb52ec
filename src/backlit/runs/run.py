"""A run as its directory describes it."""

import csv
import functools
import json
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backlit.text import flatten


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the records of a ``metrics.csv``, each with the metrics that it has; none if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
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
            ValueError: If ``run.json`` is not what a run writes.
        """
        try:
            record = json.loads((directory / "run.json").read_text(encoding="utf-8"))
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
        try:
            metrics = json.loads((self.directory / "metrics.json").read_text(encoding="utf-8"))["metrics"]
            return {str(name): float(value) for name, value in metrics.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    @functools.cached_property
    def rows(self) -> list[dict[str, float]]:
        """Return the records of ``metrics.csv`` so far, each with the metrics that it has."""
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
    """Return the run's config with dotted keys; empty if there is none."""
    try:
        text = (directory / ".hydra" / "config.yaml").read_text(encoding="utf-8")
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError):
        return {}
    flat = {key: str(value) for key, value in flatten(config if isinstance(config, dict) else {}, ".").items()}
    flat.pop("output_dir", None)
    return flat


def clear_run(directory: Path) -> None:
    """Remove what a run has left that it cannot resume from; its log stays."""
    for name in ("checkpoints", "plots", "tensorboard"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in ("run.json", "metrics.csv", "metrics.json", "weights.pth"):
        (directory / name).unlink(missing_ok=True)
