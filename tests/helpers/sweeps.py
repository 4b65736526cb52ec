"""Sweeps: their directories, written as a sweep leaves them, and real ones that run."""

import csv
import json
import math
import signal
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from backlit.runs.files import write_json
from backlit.sweeps.entries import Entry
from backlit.sweeps.job import Job
from backlit.sweeps.sweep import Sweep
from tests.helpers.processes import Started, wait_until
from tests.helpers.runs import only_sweep


def make_job(directory: Path = Path("job"), overrides: tuple[str, ...] = (), **trainer: Any) -> Job:
    """Return a job 0 of a sweep, with as much of a config as a launcher reads."""
    hydra = {"job": {"name": "train", "chdir": False}, "overrides": {"task": list(overrides)}}
    return Job(
        0, list(overrides), OmegaConf.create({"trainer": trainer, "hydra": hydra}), directory, " ".join(overrides)
    )


def make_sweep() -> Sweep:
    """Return a sweep whose jobs are not composed."""
    return Sweep(OmegaConf.create(), None, lambda config: None)  # type: ignore[arg-type]


def make_entry(run: Any, **settings: str) -> Entry:
    """Return an entry of a table."""
    return Entry("x", Path("x"), run, settings)


def write_run(directory: Path, overrides: list[str], losses: list[float], **record: Any) -> Path:
    """Write the files of a run with one epoch for each validation loss."""
    (directory / ".hydra").mkdir(parents=True)
    config: dict[str, Any] = {}
    for override in overrides:
        key, value = override.split("=")
        group, _, name = key.rpartition(".")
        (config.setdefault(group, {}) if group else config)[name] = yaml.safe_load(value)
    (directory / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    basic = {"status": "completed", "optimized_metric": "val/loss", "optimized_mode": "min", "error": None}
    write_json(directory / "run.json", {**basic, "overrides": overrides, "duration_s": 1.5, **record})
    rows = "".join(f"{10 * (epoch + 1)},{epoch},{loss}\n" for epoch, loss in enumerate(losses))
    (directory / "metrics.csv").write_text("step,epoch,val/loss\n" + rows)
    finite = [loss for loss in losses if math.isfinite(loss)]
    metrics = {"val/loss": losses[-1], "val/loss_best": min(finite, default=math.nan), "test/acc": 0.5}
    write_json(directory / "metrics.json", {"metrics": metrics})
    return directory


def write_sweep(directory: Path, jobs: dict[str, list[float]]) -> Path:
    """Write a sweep: for each job its overrides, separated by spaces, and its validation losses; none: not started."""
    recorded = []
    for number, (overrides, losses) in enumerate(jobs.items()):
        recorded.append({"number": number, "directory": str(number), "overrides": overrides.split(" ")})
        if losses:
            write_run(directory / str(number), overrides.split(" "), losses)
    directory.mkdir(exist_ok=True)
    write_json(directory / "sweep.json", {"arguments": [], "jobs": recorded})
    return directory


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def job_records(sweep: Path) -> list[dict[str, Any]]:
    """Return the content of each job's ``run.json``, in the order of the jobs."""
    return [json.loads(path.read_text()) for path in sorted(sweep.glob("*/run.json"))]


def job_statuses(sweep: Path) -> list[str]:
    """Return each job's status as its record has it, in the order of the jobs."""
    return [record["status"] for record in job_records(sweep)]


def start_sweep(*arguments: str, directory: Path) -> Started:
    """Start a sweep of backlit-train in a directory; stderr is part of its output."""
    return Started("backlit-train", "-m", *arguments, directory=directory, together=True)


def wait_for_checkpoint(process: Started, job: str = "", root: Path = Path()) -> Path:
    """Wait until a job, or any job, has a checkpoint; return the directory of the sweep."""
    pattern = f"outputs/points/sweeps/*/{job}*/checkpoints/last.ckpt"
    wait_until(lambda: list(root.glob(pattern)), process=process)
    return only_sweep(root=root)


def end_sweep(process: Started, number: signal.Signals | None = None) -> tuple[int | None, str]:
    """Send a sweep a signal, if one is given, and wait for the end; return its exit code and what it printed."""
    if number is not None:
        process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output
