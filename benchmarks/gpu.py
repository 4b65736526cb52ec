"""How long an MNIST epoch takes on a GPU: the reference program, a bare loop on data in its memory, and backlit.

    python benchmarks/gpu.py [--repeats 3] [--batch-sizes 64 512 4096] [--device cuda]

All run in turn in one process; the first turn warms up and is not counted. An epoch is timed by the device's events.
The reference program runs as written, except that its network and its batches are moved to the device. ``--device cpu``
shows only that the script works.
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from torch import nn
from torchvision.datasets import MNIST

from backlit.config.conf import CONFIG_DIR
from backlit.data import MNISTDataModule
from backlit.logs import quiet_lightning
from backlit.training.build import build_run

REFERENCE = (Path(__file__).parent / "reference" / "mnist.py").read_text()


class Clock:
    """Times what a device does, in seconds."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"

    def now(self) -> Any:
        """Return a mark of this moment in the work of the device."""
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begin: Any, end: Any) -> float:
        """Return the seconds from one mark to another."""
        if not self.on_gpu:
            return float(end - begin)
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1000


def time_reference(batch_size: int, device: torch.device) -> float:
    """Return the seconds an epoch of the reference program takes."""
    program = REFERENCE
    for old, new in (
        ("batch_size=64", f"batch_size={batch_size}"),
        ("model = SimpleNN()", f"model = SimpleNN().to({device.type!r})"),
        ("inputs, labels = data", f"inputs, labels = (part.to({device.type!r}) for part in data)"),
        ("num_epochs = 5", "num_epochs = 1"),
    ):
        assert old in program
        program = program.replace(old, new)
    above, loop = program.split("num_epochs = 1")
    namespace: dict[str, object] = {}
    exec(above, namespace)
    clock = Clock(device)
    begin = clock.now()
    exec("num_epochs = 1" + loop.split("print('Finished")[0], namespace)
    return clock.between(begin, clock.now())


def time_bare(batch_size: int, device: torch.device) -> float:
    """Return the seconds of an epoch of a bare loop: data on the device, fused Adam, nothing recorded."""
    data = MNIST("data", train=True)
    images, labels = data.data.flatten(1).to(device), data.targets.to(device)
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001, fused=True)
    clock = Clock(device)
    begin = clock.now()
    for index in torch.randperm(60_000, device=device).split(batch_size):
        inputs = images[index].float().div_(127.5).sub_(1)
        loss = F.cross_entropy(net(inputs), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clock.between(begin, clock.now())


class LastEpoch(lightning.Callback):
    """Times the last training epoch, with its records and its checkpoint."""

    def __init__(self, device: torch.device) -> None:
        self.clock = Clock(device)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.begin = self.clock.now()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock, after the records and the checkpoint of the epoch's end."""
        self.seconds = self.clock.between(self.begin, self.clock.now())


def time_backlit(batch_size: int, device: torch.device, *overrides: str) -> float:
    """Return the seconds of an epoch of ``experiment=mnist_mlp``, with its records and checkpoints."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose(
            "train",
            [
                "experiment=mnist_mlp",
                "data.val_size=0",
                f"data.batch_size={batch_size}",
                f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}",
                "trainer.max_epochs=2",
                "callbacks=none",
                *overrides,
            ],
        )
    with tempfile.TemporaryDirectory() as directory:
        parts = build_run(cfg, Path(directory))
        last = LastEpoch(device)
        parts.trainer.callbacks.append(last)  # type: ignore[attr-defined]
        parts.trainer.fit(parts.model, parts.datamodule)
    return last.seconds  # the first one also compiles


WHAT: dict[str, Callable[[int, torch.device], float]] = {
    "reference program": time_reference,
    "bare loop": time_bare,
    "backlit": time_backlit,
    "backlit, data.device_resident=false": lambda b, d: time_backlit(b, d, "data.device_resident=false"),
    "backlit, trainer.precision=bf16-mixed": lambda b, d: time_backlit(b, d, "trainer.precision=bf16-mixed"),
    "backlit, model.compile=reduce-overhead": lambda b, d: time_backlit(b, d, "model.compile=reduce-overhead"),
}


@quiet_lightning()
def main() -> None:
    """Measure several times and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA GPU found; --device cpu tries the script without one")
    device = torch.device(arguments.device)
    seconds: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        MNISTDataModule(data_dir="data").prepare_data()
        for turn in range(arguments.repeats + 1):
            for batch_size in arguments.batch_sizes:
                for what, measure in WHAT.items():
                    with contextlib.redirect_stdout(io.StringIO()):  # the reference program prints
                        took = measure(batch_size, device)
                    if turn:  # the first one warms up
                        seconds.setdefault((what, batch_size), []).append(took)
            print(f"turn {turn} of {arguments.repeats}", file=sys.stderr)
        os.chdir("/")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    table = Table(title=f"Seconds an MNIST epoch, {name}, torch {torch.__version__}, n = {arguments.repeats}")
    table.add_column("median (min - max)")
    for batch_size in arguments.batch_sizes:
        table.add_column(f"batch {batch_size}", justify="right")
    for what in WHAT:
        cells = [seconds[what, batch_size] for batch_size in arguments.batch_sizes]
        table.add_row(what, *(f"{statistics.median(c):.3f} ({min(c):.3f} - {max(c):.3f})" for c in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
