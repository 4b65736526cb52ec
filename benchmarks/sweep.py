"""How fast a sweep of 8 learning rates is, one and two jobs at a time, against plain programs.

    python benchmarks/sweep.py [--repeats 3]

Both experiments run with the default callbacks and loggers, points in full and MNIST for one epoch. The reference
programs run one after another as written, MNIST's for one of its five epochs; their imports and reading count, as they
do for the sweeps. Everything is a process of its own, in turn; a ratio is taken within a turn.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
SCRIPT = Path(sys.executable).parent / "backlit-train"
RATES = {"points": "0.01,0.02,0.05,0.1,0.2,0.5,1,2", "mnist_mlp": "1e-4,2e-4,5e-4,1e-3,2e-3,5e-3,1e-2,2e-2"}
MORE = {"points": [], "mnist_mlp": ["trainer.max_epochs=1"]}
LAUNCHERS = {
    "backlit, one at a time": [],
    "backlit, two at once": ["hydra.launcher.n_jobs=2"],
}


def seconds(command: list[str]) -> float:
    """Return the wall-clock time of a command; print its output only if it fails."""
    with tempfile.TemporaryFile("w+") as output:
        begin = time.perf_counter()
        code = subprocess.run(command, stdout=output, stderr=output).returncode
        took = time.perf_counter() - begin
        if code:
            output.seek(0)
            sys.exit(f"{command} ended with {code}:\n{output.read()}")
    return took


def sweep(experiment: str, launcher: str) -> float:
    """Return the seconds that a sweep of 8 learning rates takes."""
    command = [str(SCRIPT), "-m", f"experiment={experiment}", f"optimizer.lr={RATES[experiment]}", *MORE[experiment]]
    return seconds([*command, *LAUNCHERS[launcher]])


def reference(experiment: str) -> float:
    """Return the seconds that 8 runs of the reference program take, one after another."""
    program = (HERE / "reference" / f"{experiment.removesuffix('_mlp')}.py").read_text()
    program = program.replace("num_epochs = 5", "num_epochs = 1")
    return sum(seconds([sys.executable, "-c", program]) for _ in range(8))


def main() -> None:
    """Measure several times and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        seconds([str(SCRIPT), "experiment=mnist_mlp", "trainer.max_epochs=1"])  # unpacks MNIST, warms the disk's cache
        for turn in range(repeats):
            for experiment in RATES:
                for launcher in LAUNCHERS:
                    taken.setdefault((experiment, launcher), []).append(sweep(experiment, launcher))
                taken.setdefault((experiment, "reference programs"), []).append(reference(experiment))
            print(f"turn {turn + 1} of {repeats}", {k: round(v[-1], 1) for k, v in taken.items()}, file=sys.stderr)
        os.chdir("/")
    table = Table(title=f"8 learning rates, {os.cpu_count()} cores, n = {repeats}")
    for column in ("experiment", "how", "seconds", "min – max", "of the reference programs", "min – max"):
        table.add_column(column, justify="left" if column in ("experiment", "how") else "right")
    for (experiment, how), values in taken.items():
        ratios = [a / b for a, b in zip(values, taken[experiment, "reference programs"], strict=True)]
        cells = [f"{f(v):.{d}f}" for v, d in ((values, 1), (ratios, 3)) for f in (statistics.median, min, max)]
        table.add_row(experiment, how, cells[0], f"{cells[1]} – {cells[2]}", cells[3], f"{cells[4]} – {cells[5]}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
