"""Checkpoints that are cut off, altered, or cannot be written; `tests.test_resume` has what a run goes on from."""

import contextlib
import json
import os
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.callbacks import SafeCheckpointIO
from backlit.load import last_checkpoint, read_checkpoint
from backlit.run import Run
from backlit.train import train
from tests.conftest import Compose, RunCommand

CONTENT = {"state_dict": {"a": torch.arange(300.0)}, "epoch": 3, "name": "hello"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "last.ckpt"
    SafeCheckpointIO().save_checkpoint(CONTENT, path)
    return path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_changes_nothing(
    saved: bytes, place: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"flipped-{os.getpid()}.ckpt"
    damaged = bytearray(saved)
    damaged[place % len(saved)] ^= 1 << bit
    path.write_bytes(damaged)
    content = None
    with contextlib.suppress(ValueError):
        content = read_checkpoint(path)
    if content is not None:  # names of parts, dates, padding
        assert torch.equal(content.pop("state_dict")["a"], CONTENT["state_dict"]["a"])  # type: ignore[index]
        assert content == {"epoch": 3, "name": "hello"}


def test_a_flipped_weight_is_found(saved: bytes, tmp_path: Path) -> None:
    place = saved.index(torch.arange(300.0).numpy().tobytes())
    damaged = bytearray(saved)
    damaged[place + 500] ^= 1
    (tmp_path / "last.ckpt").write_bytes(damaged)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3  # torch does not see it
    with pytest.raises(ValueError, match=r"last.ckpt is damaged"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_found(share: float, saved: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(saved[: int(share * len(saved))])
    with pytest.raises(ValueError, match=r"last.ckpt is damaged"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_the_one_before_is_kept_and_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoints"
    assert last_checkpoint(tmp_path) is None
    for epoch in (1, 2, 3):
        SafeCheckpointIO().save_checkpoint({"state_dict": {}, "epoch": epoch}, folder / "last.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert last_checkpoint(tmp_path) == folder / "last.ckpt"
    (folder / "last.ckpt").write_bytes(b"")
    assert last_checkpoint(tmp_path) == folder / "previous.ckpt"
    assert read_checkpoint(folder / "previous.ckpt")["epoch"] == 2
    assert "last.ckpt is damaged" in caplog.text
    (folder / "last.ckpt").unlink()  # killed between two renames
    assert last_checkpoint(tmp_path) == folder / "previous.ckpt"
    (folder / "previous.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match="there is none before it that can be read"):
        last_checkpoint(tmp_path)


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


class FullFromEpoch2(lightning.Callback):
    """Lets no file grow beyond 100 kB any more, as a quota does."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_full_disk_is_one_line_and_the_run_goes_on_elsewhere(
    tiny_mnist: list[str], composed: Compose, run_command: RunCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["trainer.max_epochs=4", "callbacks=none", "logger=csv"]
    train(composed(*tiny_mnist, *own), directory("whole"))
    full = "+callbacks.full._target_=tests.callbacks.test_checkpoints.FullFromEpoch2"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="File too large"):
            train(composed(*tiny_mnist, *own, full), directory("cut"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    last = read_checkpoint(Path("cut/checkpoints/last.ckpt"))
    steps, told = last["global_step"], capsys.readouterr().err
    assert last["epoch"] == 1
    assert told.count("\n") == 1
    assert "cannot be written: File too large; last.ckpt of step" in told
    assert f"step {steps} is kept; to go on elsewhere: backlit-train resume=cut hydra.run.dir=" in told
    run = Run.read(Path("cut"))
    assert run is not None
    assert run.status == "failed"
    # As the command would have recorded it.
    record = json.loads(Path("cut/run.json").read_text())
    Path("cut/run.json").write_text(json.dumps(record | {"arguments": [*tiny_mnist, *own]}))
    before = Path("cut/run.json").read_text()
    done = run_command("backlit-train", "resume=cut", "hydra.run.dir=elsewhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path("cut/run.json").read_text() == before
    for name in ("metrics.csv", "metrics.json"):
        assert Path("elsewhere", name).read_text() == Path("whole", name).read_text()
    one, two = (torch.load(f"{run}/weights.pth", weights_only=True) for run in ("elsewhere", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in two)
    # What is refused leaves no copy.
    refused = run_command("backlit-train", "resume=elsewhere", "hydra.run.dir=third", "optimizer.lr=-1")
    assert refused.returncode == 2
    assert not Path("third").exists()
    shutil.rmtree("elsewhere/checkpoints")
    refused = run_command("backlit-train", "resume=cut", "hydra.run.dir=elsewhere")
    assert refused.stderr.startswith("error: hydra.run.dir must be an empty or new directory for the run to go on in")


def directory(name: str) -> Path:
    Path(name).mkdir()
    return Path(name)
