"""What pruning saves in a search, and what it loses: the same random trials with and without it.

    python benchmarks/search.py [--seeds 5] [--trials 30] [--experiment mnist_mlp] [--pruners asha median hyperband]

Each seed draws its own trials, which are the same for all pruners; the pruners take turns. Ratios are taken within a
seed. An idle place is one in which no job runs though trials remain, from the end of a job to the start of the next.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backlit import load_sweep
from backlit.runs.run import read_rows

SCRIPT = Path(sys.executable).parent / "backlit-train"
PRUNERS = ("asha", "median", "hyperband")


@dataclass
class Result:
    """How one search went.

    Args:
        seconds: Its wall-clock time.
        epochs: The epochs that all its trials have trained.
        best: The best value of the optimized metric.
        idle: The longest time that a place was idle while trials remained, in seconds.
    """

    seconds: float
    epochs: float
    best: float
    idle: float


def search(experiment: str, pruner: str, trials: int, seed: int, directory: Path) -> Result:
    """Run a search by two jobs at a time and return how it went."""
    command = [str(SCRIPT), f"experiment={experiment}", "sweep=optuna", f"hydra.sweeper.n_trials={trials}"]
    command += ["hydra.sweeper.sampler=random", f"hydra.sweeper.pruner={pruner}", f"hydra.sweeper.seed={seed}"]
    command += ["test=false", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={directory}"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    started, free_since, idle = 0, list[float](), 0.0
    for line in process.stdout:
        if not re.match(r"job \d+ ", line):
            continue
        if line.endswith("  starts\n"):
            started += 1
            if free_since:
                idle = max(idle, time.perf_counter() - free_since.pop(0))
        elif started < trials:
            free_since.append(time.perf_counter())
    if process.wait():
        sys.exit(f"{command} ended with {process.returncode}")
    seconds = time.perf_counter() - begin
    sweep = load_sweep(directory)
    epochs = sum(rows[-1].get("epoch", 0) + 1 for path in sweep.directories if (rows := _rows(path)))
    best = next(row["best"] for row in sweep.rows if row["status"] == "completed")
    return Result(seconds, epochs, best, idle)


def _rows(directory: Path) -> list[dict[str, float]]:
    return [row for row in read_rows(directory / "metrics.csv") if "epoch" in row]


def main() -> None:
    """Measure each seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--experiment", default="mnist_mlp")
    parser.add_argument("--pruners", nargs="+", default=PRUNERS)
    options = parser.parse_args()
    found: dict[str, list[Result]] = {pruner: [] for pruner in ("none", *options.pruners)}
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        subprocess.run(
            [SCRIPT, f"experiment={options.experiment}", "trainer.max_epochs=1"], check=True
        )  # unpacks MNIST
        for seed in range(options.seeds):
            for pruner in found:
                path = Path(f"{pruner}-{seed}")
                found[pruner].append(search(options.experiment, pruner, options.trials, seed, path))
                print(seed, pruner, found[pruner][-1], file=sys.stderr)
        os.chdir("/")
    n = f"{options.trials} trials of {options.experiment}, two at a time, {os.cpu_count()} cores, n = {options.seeds}"
    table = Table(title=f"{n}: median (min – max) of the ratios to no pruning")
    for column in ("pruner", "epochs", "seconds", "best, difference", "longest idle place, s"):
        table.add_column(column, justify="left" if column == "pruner" else "right")
    for pruner, results in found.items():
        pairs = list(zip(results, found["none"], strict=True))
        columns = [
            [one.epochs / whole.epochs for one, whole in pairs],
            [one.seconds / whole.seconds for one, whole in pairs],
            [one.best - whole.best for one, whole in pairs],
            [one.idle for one in results],
        ]
        cells = [f"{statistics.median(values):.3g} ({min(values):.3g} – {max(values):.3g})" for values in columns]
        table.add_row(pruner, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
