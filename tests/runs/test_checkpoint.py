"""Checkpoints that are cut off, altered, or crafted."""

import contextlib
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.models import BinaryClassifier
from backlit.runs import checkpoint
from backlit.runs.checkpoint import (
    Checkpoint,
    SafeCheckpointIO,
    find_last_checkpoint,
    find_mismatch,
    find_unusual,
    net_weights,
    read_checkpoint,
)

CONTENT = {"state_dict": {"a": torch.arange(300.0)}, "epoch": 3, "name": "hello"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "last.ckpt"
    SafeCheckpointIO().save_checkpoint(CONTENT, path)
    return path


def with_flipped_bit(path: Path, place: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of a file in which one bit is another."""
    flipped = tmp_path_factory.getbasetemp() / f"flipped-{os.getpid()}.ckpt"
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    flipped.write_bytes(content)
    return flipped


def data_places(path: Path) -> list[range]:
    """Return where the parts of an archive lie in its file, without headers and padding."""
    content, places = path.read_bytes(), []
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            assert part.compress_type == zipfile.ZIP_STORED
            name_size, extra_size = struct.unpack_from("<HH", content, part.header_offset + 26)
            begin = part.header_offset + 30 + name_size + extra_size
            places.append(range(begin, begin + part.file_size))
    return places


def assert_is_content(content: dict[str, Any]) -> None:
    assert content.keys() == CONTENT.keys()
    assert torch.equal(content["state_dict"]["a"], torch.arange(300.0))
    assert (content["epoch"], content["name"]) == (3, "hello")


def test_what_was_saved_is_read_back(saved: Path) -> None:
    assert_is_content(read_checkpoint(saved))
    assert_is_content(Checkpoint.read(saved).content)
    assert_is_content(SafeCheckpointIO().load_checkpoint(saved))


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_data_is_found(
    saved: Path, number: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    places = [place for part in data_places(saved) for place in part]
    flipped = with_flipped_bit(saved, places[number % len(places)], bit, tmp_path_factory)
    with pytest.raises(ValueError, match=r"flipped-.*ckpt is damaged, or no checkpoint"):
        read_checkpoint(flipped)


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_beside_the_data_is_found_or_changes_nothing(
    saved: Path, number: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    within = {place for part in data_places(saved) for place in part}
    beside = [place for place in range(saved.stat().st_size) if place not in within]
    flipped = with_flipped_bit(saved, beside[number % len(beside)], bit, tmp_path_factory)
    with contextlib.suppress(ValueError):
        assert_is_content(read_checkpoint(flipped))


def test_a_flipped_bit_of_the_padding_is_accepted(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # What precedes the largest part fills its header's extra field up to a multiple of 64 bytes.
    weights = max(data_places(saved), key=len)
    assert_is_content(read_checkpoint(with_flipped_bit(saved, weights.start - 1, 0, tmp_path_factory)))


def test_a_flipped_weight_that_torch_does_not_see_is_found(
    saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = saved.read_bytes().index(torch.arange(300.0).numpy().tobytes())
    flipped = with_flipped_bit(saved, place + 500, 0, tmp_path_factory)
    seen = torch.load(flipped, weights_only=True)
    assert not torch.equal(seen["state_dict"]["a"], torch.arange(300.0))
    with pytest.raises(ValueError, match=r"ckpt is damaged"):
        read_checkpoint(flipped)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_found(share: float, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    with pytest.raises(ValueError, match=r"last.ckpt is damaged"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_the_previous_checkpoint_is_kept_and_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoints"
    assert find_last_checkpoint(tmp_path) is None
    for epoch in (1, 2, 3):
        SafeCheckpointIO().save_checkpoint({"state_dict": {}, "epoch": epoch}, folder / "last.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert find_last_checkpoint(tmp_path).path == folder / "last.ckpt"  # type: ignore[union-attr]
    (folder / "last.ckpt").write_bytes(b"")
    assert find_last_checkpoint(tmp_path).path == folder / "previous.ckpt"  # type: ignore[union-attr]
    assert read_checkpoint(folder / "previous.ckpt")["epoch"] == 2
    assert "last.ckpt is damaged" in caplog.text
    (folder / "last.ckpt").unlink()  # killed between two renames
    assert find_last_checkpoint(tmp_path).path == folder / "previous.ckpt"  # type: ignore[union-attr]
    (folder / "previous.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="there is no previous checkpoint that can be read"):
        find_last_checkpoint(tmp_path)


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch exploded",))


@pytest.mark.parametrize("as_archive", [True, False])
def test_a_crafted_pickle_is_not_run(as_archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    if as_archive:
        torch.save({"state_dict": {}, "bomb": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": {}, "bomb": Bomb()}))
    with pytest.raises(ValueError, match=r"bomb.ckpt is damaged, or no checkpoint"):
        read_checkpoint(path)
    with pytest.raises(ValueError, match=r"bomb.ckpt is damaged, or no checkpoint"):
        SafeCheckpointIO().load_checkpoint(path)
    assert not Path("exploded").exists()


def test_a_file_of_another_program_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="must be a checkpoint with a state_dict, but is another program's file"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_checkpoint_that_has_been_read_is_not_read_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Checkpoint.read(saved)
    io = SafeCheckpointIO(known)
    read: list[Path] = []
    monkeypatch.setattr(checkpoint, "read_checkpoint", lambda path, map_location: read.append(path))
    assert io.load_checkpoint(saved) is known.content
    assert read == []
    io.load_checkpoint(saved)  # later it may be another file
    assert read == [saved]


def test_a_checkpoint_that_cannot_be_written_leaves_the_previous_one(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(saved.read_bytes())
    with pytest.raises(pickle.PicklingError):
        SafeCheckpointIO().save_checkpoint({"state_dict": {}, "broken": Unpicklable()}, path)
    assert_is_content(read_checkpoint(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


class Unpicklable:
    """Raises when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise pickle.PicklingError("no")


def test_weights_have_the_networks_own_names() -> None:
    assert net_weights({"net.fc1.weight": 1, "net.fc1.bias": 2, "scores.x": 3}) == {"fc1.weight": 1, "fc1.bias": 2}
    assert net_weights({"layer.weight": 1}) == {"layer.weight": 1}


def test_the_first_difference_of_weights_is_named() -> None:
    model = BinaryClassifier(hidden_sizes=[3])
    state = model.state_dict()
    assert find_mismatch(model, state) is None
    one_less = {name: value for name, value in state.items() if name != "net.fc2.bias"}
    assert find_mismatch(model, one_less) == "the model has net.fc2.bias, which the checkpoint does not have"
    one_more = state | {"net.fc9.bias": torch.zeros(1)}
    assert find_mismatch(model, one_more) == "the checkpoint has net.fc9.bias, which the model does not have"
    other = state | {"net.fc1.bias": torch.zeros(5)}
    assert find_mismatch(model, other) == "net.fc1.bias has shape (3,) in the model, (5,) in the checkpoint"
    assert find_mismatch(model, {name: value.double() for name, value in state.items()}) is None


@pytest.mark.filterwarnings(
    "ignore:.*nested tensors is in prototype:UserWarning", "ignore:torch.quantize_per:UserWarning"
)
@pytest.mark.parametrize(
    ("make", "there"),
    [
        (lambda: torch.zeros(3, dtype=torch.complex64), "torch.complex64"),
        (lambda: torch.zeros(3, dtype=torch.int64), "torch.int64"),
        (lambda: torch.zeros(3, dtype=torch.float8_e4m3fn), "torch.float8_e4m3fn"),
        (lambda: torch.zeros(3).to_sparse(), "torch.float32 sparse_coo"),
        (lambda: torch.zeros(3, device="meta"), "torch.float32 meta"),
        (lambda: torch.nested.nested_tensor([torch.zeros(3)]), "torch.float32 nested"),
        (lambda: torch.nn.Parameter(torch.zeros(3)), "torch.float32 parameter"),
        (lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8), "torch.qint8"),
    ],
)
def test_weights_of_another_kind_are_named(make: Callable[[], torch.Tensor], there: str) -> None:
    model = BinaryClassifier(hidden_sizes=[3])
    state = model.state_dict() | {"net.fc1.bias": make()}
    assert find_mismatch(model, state) == f"net.fc1.bias is torch.float32 in the model, {there} in the checkpoint"
    no_tensor = model.state_dict() | {"net.fc1.bias": [0.0, 0.0, 0.0]}
    assert find_mismatch(model, no_tensor) == "net.fc1.bias is a tensor in the model, and none in the checkpoint"
    is_exported = not there.endswith(("sparse_coo", "meta", "nested"))
    assert find_unusual({"a": torch.zeros(1), "b": make()}) == (None if is_exported else f"b is {there}")


def test_weights_that_are_no_tensors_are_not_exported() -> None:
    assert find_unusual({"a": [1.0]}) == "a is a list"
