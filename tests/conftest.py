"""Fixtures: a directory of its own for each test, tiny data, trained runs, commands; nothing needs a network."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from tests.helpers.commands import QUICK, Ended, call_in_process, compose_config
from tests.helpers.images import write_idx
from tests.helpers.processes import Started

Compose = Callable[..., DictConfig]
RunCommand = Callable[..., subprocess.CompletedProcess[str]]
CallCommand = Callable[..., Ended]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes; `make quick` leaves them out."""
    for item in items:
        if {"run_command", "run_script"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.process)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test works in a directory of its own, and leaves Hydra as it found it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    GlobalHydra.instance().clear()


@pytest.fixture
def composed() -> Compose:
    """Compose a config from the overrides of a command line."""
    return compose_config


@pytest.fixture(scope="session")
def mnist_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with MNIST, unpacked once for all workers of a test run; not to be changed."""
    from backlit.data.mnist_unpack import unpack_mnist  # heavy, and xdist's first process runs no test

    root = tmp_path_factory.getbasetemp()
    data_dir = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "mnist"
    unpack_mnist(data_dir)
    return data_dir


@pytest.fixture
def data_here(mnist_data: Path, tmp_path: Path) -> None:
    """Put MNIST where the default of data_dir has it: nothing is unpacked."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "MNIST").symlink_to(mnist_data / "MNIST")


@pytest.fixture(scope="session")
def image_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir with 200 training and 100 test images of ten classes that are easy to distinguish."""
    data_dir = tmp_path_factory.mktemp("images")
    raw = data_dir / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    for part, size in (("train", 200), ("t10k", 100)):
        labels = (numpy.arange(size) % 10).astype(numpy.uint8)
        images = random.integers(0, 60, (size, 28, 28), dtype=numpy.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 3] += 180
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    return data_dir


@pytest.fixture
def tiny_images(image_data: Path, tmp_path: Path) -> str:
    """A copy of `image_data` that a test may change."""
    return str(shutil.copytree(image_data, tmp_path / "images"))


@pytest.fixture
def tiny_mnist(tiny_images: str) -> list[str]:
    """Overrides that make the MNIST experiment small."""
    return _small_images(tiny_images)


def _small_images(data_dir: str) -> list[str]:
    return [
        "experiment=mnist_mlp",
        "data.dataset=FashionMNIST",
        f"data.data_dir={data_dir}",
        "data.val_size=50",
        "data.batch_size=10",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=5",
    ]


@pytest.fixture(scope="session")
def trained_points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of `QUICK`, as the command leaves it; not to be changed."""
    return _train(tmp_path_factory.mktemp("points"), QUICK)


@pytest.fixture(scope="session")
def trained_images(image_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run on `image_data` with all callbacks and a histogram every 10 steps; not to be changed."""
    arguments = [*_small_images(str(image_data)), "callbacks.histograms.every_n_steps=10"]
    return _train(tmp_path_factory.mktemp("mnist_mlp"), arguments)


def _train(directory: Path, arguments: list[str]) -> Path:
    from tests.helpers.runs import change_record  # heavy, see above

    with contextlib.chdir(directory):
        ended = call_in_process("backlit-train", *arguments, f"hydra.run.dir={directory}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    change_record(directory, arguments=arguments)
    return directory


@pytest.fixture
def points_run(trained_points: Path, tmp_path: Path) -> Path:
    """A copy of `trained_points` that a test may change, in ``outputs``."""
    return _copy_run(trained_points, tmp_path / "outputs" / "points" / "runs" / "2026-01-01_00-00-00")


@pytest.fixture
def images_run(trained_images: Path, tmp_path: Path) -> Path:
    """A copy of `trained_images` that a test may change, in ``outputs``."""
    return _copy_run(trained_images, tmp_path / "outputs" / "mnist_mlp" / "runs" / "2026-01-01_00-00-00")


def _copy_run(run: Path, directory: Path) -> Path:
    shutil.copytree(run, directory)
    path = directory / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace(str(run), str(directory)))
    return directory


@pytest.fixture
def call_command() -> CallCommand:
    """Run a command of backlit in this process."""
    return call_in_process


@pytest.fixture
def run_command(tmp_path: Path) -> RunCommand:
    """Run a command of backlit as a process of its own."""

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


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let this process have one GB more of memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
