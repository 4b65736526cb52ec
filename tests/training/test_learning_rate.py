"""``lr_find``: the picture, the suggestion, and a run that is not changed by them."""

import logging
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from backlit.training.build import build_run
from backlit.training.learning_rate import steepest, suggest_learning_rate
from backlit.training.train import train
from tests.conftest import Compose

TINY = ["experiment=points", "data.train_size=40", "data.passes_per_epoch=2", "trainer=cpu", "callbacks=none"]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)[
        "state_dict"
    ]
    return state


def test_a_rate_is_suggested_and_the_run_is_as_without(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_it, without = tmp_path / "with", tmp_path / "without"
    more = ["scheduler=one_cycle"]  # whose length is that of the training
    for directory, find in ((with_it, ["lr_find=true"]), (without, [])):
        directory.mkdir()
        with caplog.at_level(logging.INFO, logger="backlit"):
            train(composed(*TINY, "trainer.max_epochs=1", *more, *find), directory)
    (rate,) = re.findall(r"lr_find: the loss falls most steeply at optimizer.lr=(\S+):", caplog.text)
    assert 1e-8 < float(rate) <= 10
    with Image.open(with_it / "plots" / "lr_find.png") as picture:
        assert picture.size == (840, 480)
    assert not (without / "plots").exists()
    assert all(torch.equal(value, weights(without)[name]) for name, value in weights(with_it).items())
    assert (with_it / "metrics.csv").read_text() == (without / "metrics.csv").read_text()


def test_the_losses_are_running_means(composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a loss that is always 3 the mean is 3, from the first step on.
    seen: list[list[float]] = []

    def draw(rates: list[float], losses: list[float], suggested: float) -> None:
        seen.append(losses)
        raise ZeroDivisionError

    monkeypatch.setattr("backlit.training.learning_rate.draw_learning_rates", draw)
    parts = build_run(composed(*TINY), tmp_path)
    monkeypatch.setattr(type(parts.model), "loss", lambda self, logits, targets: 0 * logits.sum() + 3)
    with pytest.raises(ZeroDivisionError):
        suggest_learning_rate(parts)
    assert len(seen[0]) == 100
    assert seen[0] == pytest.approx([3] * 100)


def test_the_slope_is_over_the_logarithm_of_the_rate() -> None:
    rates = [10 ** (-8 + n / 10) for n in range(91)]
    # A fall by 1 around 1e-3, and a tiny one at the smallest rates, which is steeper over the rate itself.
    losses = [2 - 0.001 * n / 90 - 1 / (1 + (1e-3 / rate) ** 2) for n, rate in enumerate(rates)]
    assert steepest(rates, losses) == pytest.approx(1e-3, rel=0.15)
    assert steepest(rates[:11], losses[:11]) is None


def test_a_loss_that_falls_after_it_has_diverged_is_no_suggestion() -> None:
    rates = [10 ** (-8 + n / 10) for n in range(91)]
    falls = [2 - 1 / (1 + (1e-3 / rate) ** 2) for rate in rates]
    losses = [loss if n < 70 else 1000 - 90 * (n - 80) for n, loss in enumerate(falls)]  # from 1900 to 100
    assert steepest(rates, losses) == pytest.approx(1e-3, rel=0.15)
    assert steepest(rates, [float(n) for n in range(91)]) is None
