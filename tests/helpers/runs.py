"""Run and sweep directories: finding the only one, and reading what it holds."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def only_run(task: str = "points", root: Path = Path()) -> Path:
    """Return the directory of the only run of a task below ``root/outputs``."""
    (record,) = root.glob(f"outputs/{task}/runs/*/run.json")
    return record.parent


def only_sweep(task: str = "points", root: Path = Path()) -> Path:
    """Return the directory of the only sweep of a task below ``root/outputs``."""
    (sweep,) = root.glob(f"outputs/{task}/sweeps/*")
    return sweep


def read_record(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` holds, read without backlit."""
    record: dict[str, Any] = json.loads((run / "run.json").read_text())
    return record


def change_record(run: Path, **changes: Any) -> None:
    """Change entries of ``run.json``."""
    (run / "run.json").write_text(json.dumps(read_record(run) | changes))


def saved_metrics(run: Path) -> dict[str, float]:
    """Return the final metrics in ``metrics.json``."""
    metrics: dict[str, float] = json.loads((run / "metrics.json").read_text())["metrics"]
    return metrics


def csv_curve(run: Path, name: str) -> list[tuple[int, float]]:
    """Return step and value of a metric, as ``metrics.csv`` has them."""
    with (run / "metrics.csv").open(newline="") as file:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file) if row[name]]


def tensorboard_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return step and value of every metric, as TensorBoard shows them."""
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same_run(run: Path, expected: Path) -> None:
    """Assert that two runs have the same metrics, curves and weights, bit for bit."""
    for name in ("metrics.csv", "metrics.json"):
        assert (run / name).read_text() == (expected / name).read_text()
    for name in ("weights.pth", "checkpoints/last.ckpt"):
        one, two = (torch.load(directory / name, weights_only=True) for directory in (run, expected))
        one, two = one.get("state_dict", one), two.get("state_dict", two)
        assert one.keys() == two.keys()
        assert [key for key in two if not torch.equal(one[key], two[key])] == []
    if (expected / "tensorboard").exists():
        assert tensorboard_curves(run) == tensorboard_curves(expected)
