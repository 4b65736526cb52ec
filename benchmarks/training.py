"""How fast backlit trains: against the reference programs as written, and against bare loops.

    python benchmarks/training.py [--repeats 5]

Everything runs as a process of its own, in turn, on the same data; a ratio is taken within a turn, so that a machine
that is slower for a while slows all of them. backlit runs as a person runs it, at a (pseudo-)terminal, with its default
logging, metrics, validation, checkpoints and progress bar.
"""

import argparse
import json
import os
import platform
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
SCRIPT = Path(sys.executable).parent / "backlit-train"


def time_reference(program: str, marker: str, passes: int) -> float:
    """Return the seconds a pass of a reference program's training loop takes, from the line with `marker` on."""
    above, loop = (HERE / "reference" / f"{program}.py").read_text().split(marker)
    namespace: dict[str, object] = {}
    exec(above, namespace)
    begin = time.perf_counter()
    exec(marker + loop, namespace)
    return (time.perf_counter() - begin) / passes


def time_bare_mnist() -> float:
    """Return the seconds an epoch of a bare loop takes: data in memory, fused Adam, nothing recorded."""
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torchvision.datasets import MNIST

    data = MNIST("data", train=True)
    images, labels = data.data.flatten(1), data.targets
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001, fused=True)
    begin = time.perf_counter()
    for _ in range(5):
        for index in torch.randperm(60_000).split(64):
            inputs = images[index].float().div_(127.5).sub_(1)
            loss = F.cross_entropy(net(inputs), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return (time.perf_counter() - begin) / 5


def time_bare_points() -> float:
    """Return the seconds that 1,000 full-batch steps of a bare loop take, with nothing recorded."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    points = torch.rand(100, 2) * 2 - 1
    labels = (points.sum(1, keepdim=True) > 0).float()
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    begin = time.perf_counter()
    for _ in range(1000):
        loss = F.binary_cross_entropy_with_logits(net(points), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - begin


PARTS: dict[str, Callable[[], float]] = {
    "reference mnist": lambda: time_reference("mnist", "num_epochs = 5", 5),
    "bare mnist": time_bare_mnist,
    "reference points": lambda: time_reference("points", "epochs = 1000", 1),
    "bare points": time_bare_points,
}


def part(name: str) -> float:
    """Return the seconds of a part of `PARTS`, measured in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def backlit(experiment: str) -> tuple[float, float, float]:
    """Run an experiment at a terminal; return seconds to the first step, seconds of training, and peak memory in GB.

    Training lasts from its first step to the end of its last epoch, with all validation, records and checkpoints.
    """
    run = Path("outputs", "benchmark", str(time.time_ns()))
    main, terminal = pty.openpty()
    started = time.time()
    process = subprocess.Popen(
        [SCRIPT, f"experiment={experiment}", f"hydra.run.dir={run}"], stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    while True:
        try:
            if not os.read(main, 65536):
                break
        except OSError:  # what Linux raises when the other end of a terminal is closed
            break
    os.close(main)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{run}/train.log says why"
    stamps = re.findall(r"^(\S+ \S+) INFO (?:MLP|epoch)", (run / "train.log").read_text(), re.MULTILINE)
    times = [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp() for stamp in stamps]
    scale = 1024**2 if sys.platform == "linux" else 1024**3
    return times[0] - started, times[-1] - times[0], usage.ru_maxrss / scale


def wall(*command: str) -> float:
    """Return the seconds that a command takes."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def measure() -> dict[str, float]:
    """Measure everything once, in turn."""
    found = {name: part(name) for name in ("reference mnist", "bare mnist")}
    _, training, found["memory"] = backlit("mnist_mlp")
    found["backlit mnist"] = training / 5
    found |= {name: part(name) for name in ("reference points", "bare points")}
    found["first step"], found["backlit points"], _ = backlit("points")
    found["imports"] = wall(sys.executable, "-c", "import torch, lightning, torchmetrics")
    found["--help"] = wall(str(SCRIPT), "--help")
    found["--cfg job"] = wall(str(SCRIPT), "--cfg", "job")
    os.environ["COMP_LINE"] = "backlit-train optimizer="
    found["tab completion"] = wall(str(SCRIPT), "-sc", "query=bash")
    return found


ROWS = [
    # name, (numerator, denominator), target
    ("MNIST epoch: backlit / reference program", ("backlit mnist", "reference mnist"), "≤ 0.25"),
    ("MNIST epoch: bare loop / reference program", ("bare mnist", "reference mnist"), ""),
    ("1,000 points steps: backlit / bare loop", ("backlit points", "bare points"), "≤ 3"),
    ("1,000 points steps: reference program / bare loop", ("reference points", "bare points"), ""),
    ("command to first step of points / imports", ("first step", "imports"), "≤ 1.3"),
]
SECONDS = {"--help": "≤ 0.6", "--cfg job": "≤ 0.6", "tab completion": "≤ 0.6"}


def main() -> None:
    """Measure several times and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(PARTS[arguments.part]())
        return
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        backlit("mnist_mlp")  # not counted: unpacks MNIST and warms the disk's cache
        turns = []
        for turn in range(arguments.repeats):
            turns.append(measure())
            print(
                f"turn {turn + 1} of {arguments.repeats}",
                {k: round(v, 3) for k, v in turns[-1].items()},
                file=sys.stderr,
            )
        os.chdir("/")

    table = Table(title=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, n = {len(turns)}")
    for column in ("what", "median", "min – max", "to reach"):
        table.add_column(column, justify="left" if column == "what" else "right")

    def row(what: str, values: list[float], target: str, unit: str = "") -> None:
        spread = f"{min(values):.3f} – {max(values):.3f}{unit}"
        table.add_row(what, f"{statistics.median(values):.3f}{unit}", spread, target)

    for what, (over, under), target in ROWS:
        row(what, [turn[over] / turn[under] for turn in turns], target)
    for name, target in SECONDS.items():
        row(name, [turn[name] for turn in turns], target, " s")
    row("peak memory of the MNIST run", [turn["memory"] for turn in turns], "≤ 1.2 GB", " GB")
    for name in ("reference mnist", "bare mnist", "backlit mnist", "reference points", "bare points", "backlit points"):
        row(f"{name}, seconds", [turn[name] for turn in turns], "")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
