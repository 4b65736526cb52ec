"""The files are the originals after any accident; sums are checked by hashlib, not by backlit."""

import gzip
import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
from importlib import resources
from pathlib import Path

import pytest

from backlit.data.mnist_unpack import MNIST_SHA256, unpack_mnist


@pytest.fixture
def unpacked(mnist_data: Path) -> Path:
    """The folder of the four unpacked files; not to be changed."""
    return mnist_data / "MNIST" / "raw"


@pytest.fixture
def raw(unpacked: Path, tmp_path: Path) -> Path:
    """A copy of the folder, in ``MNIST/raw``, that a test may change."""
    return shutil.copytree(unpacked, tmp_path / "MNIST" / "raw")


def intact_files(folder: Path) -> set[str]:
    return {
        path.name
        for path in folder.iterdir()
        if MNIST_SHA256.get(path.name) == hashlib.sha256(path.read_bytes()).hexdigest()
    }


def test_unpacked_files_are_the_originals_and_nothing_else(unpacked: Path) -> None:
    assert intact_files(unpacked) == set(MNIST_SHA256)
    assert {path.name for path in unpacked.iterdir()} - {".lock"} == set(MNIST_SHA256)


def test_intact_files_are_used_without_a_write(raw: Path, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}
    assert unpack_mnist(tmp_path) == raw
    # A folder that is itself the place of the files is read where it is.
    assert unpack_mnist(raw) == raw
    assert {path.name: path.stat().st_mtime_ns for path in raw.iterdir()} == before


def test_packed_files_in_the_data_directory_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MNIST_SHA256:
        packed = resources.files("backlit.data") / "mnist_files" / f"{name}.gz"
        (tmp_path / f"{name}.gz").write_bytes(packed.read_bytes())
    monkeypatch.setattr("backlit.data.mnist_unpack.resources", None)  # the package's own copy is out of reach
    assert intact_files(unpack_mnist(tmp_path)) == set(MNIST_SHA256)


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_file_is_named_and_replaced(
    damage: str, raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = raw / "t10k-labels-idx1-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] if damage == "truncated" else whole[:-1] + b"\x03")
    with caplog.at_level(logging.WARNING):
        unpack_mnist(tmp_path)
    assert caplog.messages == [f"{path} is truncated or altered; the original replaces it"]
    assert path.read_bytes() == whole


def unpack_until_killed(data_dir: Path) -> None:
    """Unpack until the third file is half written, then die as by `kill -9`."""
    write_bytes, written = Path.write_bytes, []

    def write_and_die(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            write_bytes(path, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write_bytes(path, content)

    Path.write_bytes = write_and_die  # type: ignore[assignment,method-assign]
    unpack_mnist(data_dir)


@pytest.mark.process
def test_a_kill_while_unpacking_leaves_no_half_written_file_under_a_files_name(tmp_path: Path) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=unpack_until_killed, args=[tmp_path])
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    raw = tmp_path / "MNIST" / "raw"
    third = list(MNIST_SHA256)[2]
    assert {path.name for path in raw.iterdir()} - {".lock"} == {*list(MNIST_SHA256)[:2], f"{third}.partial"}
    assert intact_files(raw) == set(list(MNIST_SHA256)[:2])
    unpack_mnist(tmp_path)
    assert intact_files(raw) == {path.name for path in raw.iterdir()} - {".lock"} == set(MNIST_SHA256)


def test_pipes_links_and_bombs_in_their_place_are_replaced(tmp_path: Path) -> None:
    names, raw, victim = list(MNIST_SHA256), tmp_path / "MNIST" / "raw", tmp_path / "victim"
    raw.mkdir(parents=True)
    os.mkfifo(raw / names[0])
    victim.write_text("precious")
    for name in names:
        (raw / f"{name}.partial").symlink_to(victim)
    with gzip.open(tmp_path / f"{names[1]}.gz", "wb", 1) as file:
        for _ in range(70):
            file.write(b"\0" * 2**20)
    assert unpack_mnist(tmp_path) == raw
    assert intact_files(raw) == set(MNIST_SHA256)
    assert victim.read_text() == "precious"
