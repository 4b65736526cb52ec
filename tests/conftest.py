"""Tiny data and short ways to run things; nothing here needs a network."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

# Two test processes on two cores: more threads than that only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

from backlit import entry
from backlit.entry import CONFIG_DIR
from tests.processes import Started

Compose = Callable[..., DictConfig]
RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test works in a directory of its own, and leaves Hydra and what a command keeps as it found them."""
    monkeypatch.chdir(tmp_path)
    for name in ("_plan", "_sweep_dir"):
        monkeypatch.setattr(entry, name, getattr(entry, name))
    yield tmp_path
    GlobalHydra.instance().clear()


@pytest.fixture
def composed() -> Compose:
    def make(*overrides: str, config_name: str = "train") -> DictConfig:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return compose(config_name, list(overrides))

    return make


def write_idx(path: Path, array: numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]) -> None:
    """Write the IDX format of MNIST: two zeros, type 8 (uint8), the number of dimensions, each dimension, the data."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def tiny_images(tmp_path: Path) -> str:
    """A data_dir with 200 training and 100 test images of ten classes that can be told apart, as Fashion-MNIST."""
    raw = tmp_path / "images" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    for part, size in (("train", 200), ("t10k", 100)):
        labels = (numpy.arange(size) % 10).astype(numpy.uint8)
        images = random.integers(0, 60, (size, 28, 28), dtype=numpy.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 3] += 180
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    return str(tmp_path / "images")


@pytest.fixture
def tiny_mnist(tiny_images: str) -> list[str]:
    """Overrides that make the MNIST experiment small."""
    return [
        "experiment=mnist_mlp",
        "data.dataset=FashionMNIST",
        f"data.data_dir={tiny_images}",
        "data.val_size=50",
        "data.batch_size=10",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=5",
    ]


@pytest.fixture
def run_command(tmp_path: Path) -> RunCommand:
    """Run a command of backlit's as a process of its own."""

    def run(*command: str, timeout: int = 120) -> subprocess.CompletedProcess[str]:
        started = Started(*command, directory=tmp_path)
        output, errors = started.communicate(timeout)
        return subprocess.CompletedProcess(command, started.wait(), output, errors)

    return run


@pytest.fixture
def run_script(tmp_path: Path) -> RunCommand:
    """Run a console script, or ``python``, just as it is typed."""

    def run(*command: str, timeout: int = 120) -> subprocess.CompletedProcess[str]:
        path = sys.executable if command[0] == "python" else str(Path(sys.executable).parent / command[0])
        return subprocess.run([path, *command[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=timeout)

    return run
