"""``scale_batch_size``: the picture, the suggestion, and a run that is not changed by them."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from backlit.models import BinaryClassifier
from backlit.training.batch_size import smallest_enough
from backlit.training.train import train
from tests.conftest import Compose

TINY = ["experiment=points", "data.train_size=40", "data.passes_per_epoch=2", "trainer=cpu", "callbacks=none"]
TINY += ["trainer.max_epochs=1"]


def ticking(step_seconds: Callable[[int], float]) -> Callable[[], float]:
    """Return a clock that goes on by the seconds of the n-th step whenever it is read."""
    now, reads = 0.0, 0

    def read() -> float:
        nonlocal now, reads
        now, reads = now + step_seconds(reads), reads + 1
        return now

    return read


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)[
        "state_dict"
    ]
    return state


def test_a_size_is_suggested_and_the_run_is_as_without(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each step takes a millisecond, whatever its size.
    monkeypatch.setattr("backlit.training.batch_size.perf_counter", ticking(lambda _: 0.001))
    with_it, without = tmp_path / "with", tmp_path / "without"
    for directory, more in ((with_it, ["scale_batch_size=true"]), (without, [])):
        directory.mkdir()
        with caplog.at_level(logging.INFO, logger="backlit.training.batch_size"):
            train(composed(*TINY, "model.dropout=0.1", *more), directory)
    lines = [message.split() for message in caplog.messages if message.endswith("samples/s")]
    assert [line[1:3] for line in lines] == [
        ["data.batch_size=8", "8,000"],
        ["data.batch_size=16", "16,000"],
        ["data.batch_size=32", "32,000"],
    ]
    assert "data.batch_size=32 is the smallest with 95 % of the most samples/s" in caplog.text
    with Image.open(with_it / "plots" / "scale_batch_size.png") as picture:
        assert picture.size == (840, 480)
    assert not (without / "plots").exists()
    assert all(torch.equal(value, weights(without)[name]) for name, value in weights(with_it).items())
    assert (with_it / "metrics.csv").read_text() == (without / "metrics.csv").read_text()


def test_two_measurements_that_differ_are_no_suggestion(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first round is 200 steps each of 8, 16, 32, and of the 40 samples that there are.
    seconds = ticking(lambda read: 0.001 if read < 800 else 0.01)
    monkeypatch.setattr("backlit.training.batch_size.perf_counter", seconds)
    with caplog.at_level(logging.WARNING):
        train(composed(*TINY, "scale_batch_size=true"), tmp_path)
    assert "takes 10.0 times as long when it is measured again" in caplog.text
    assert not (tmp_path / "plots").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, FloatingPointError])
def test_a_full_memory_and_a_loss_that_diverges_end_the_search_alone(
    error: type[Exception],
    composed: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backlit.training.batch_size.perf_counter", ticking(lambda _: 0.001))
    loss = BinaryClassifier.loss

    def loss_of_few(self: BinaryClassifier, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if len(targets) == 16:
            raise error
        return loss(self, logits, targets)

    monkeypatch.setattr(BinaryClassifier, "loss", loss_of_few)
    with caplog.at_level(logging.INFO, logger="backlit.training.batch_size"):
        train(composed(*TINY, "scale_batch_size=true"), tmp_path)
    assert "data.batch_size=8 is the smallest" in caplog.text


def test_the_smallest_of_the_fastest_is_suggested() -> None:
    assert smallest_enough({8: 10.0, 16: 94.0, 32: 96.0, 64: 100.0, 128: 90.0}) == 32
