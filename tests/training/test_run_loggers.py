"""Loggers in a run: what each gets, whatever its class; none fails the run."""

import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch import loggers

from backlit.errors import ConfigError
from backlit.training.train import train
from tests.conftest import Compose
from tests.helpers.commands import QUICK
from tests.helpers.runs import csv_curve, read_record, saved_metrics

OWN = "tests.training.test_run_loggers.OwnLogger"
PICTURES = "+callbacks.pictures={_target_: backlit.callbacks.Pictures, directory: plots, every_n_steps: 15}"


class OwnLogger(loggers.Logger):
    """One of a user's own, which keeps what it gets and may raise.

    Args:
        fails: The method that raises, and from which call on, counted from 1.
        run_id: What its server calls the run.
    """

    made: ClassVar[list["OwnLogger"]] = []

    def __init__(self, fails: str = "", count: int = 1, run_id: str | None = None) -> None:
        super().__init__()
        self.fails, self.left, self.run_id = fails, count, run_id or "new-1"
        self.calls: list[tuple[str, Any]] = []
        self.made.append(self)

    @property
    def name(self) -> str:
        return "own"

    @property
    def version(self) -> str:
        return self.run_id

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._take("log_hyperparams", params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._take("log_metrics", (step, metrics))

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self._take("log_image", (step, key, images[0].size))

    def finalize(self, status: str) -> None:
        self._take("finalize", status)

    def _take(self, method: str, content: Any) -> None:
        self.calls.append((method, content))
        if method == self.fails:
            self.left -= 1
            if self.left <= 0:
                raise ConnectionError("the server\nis gone")

    def got(self, method: str) -> list[Any]:
        """Return what a method has got."""
        return [content for name, content in self.calls if name == method]


@pytest.fixture(autouse=True)
def forget_loggers() -> None:
    OwnLogger.made.clear()


def train_with(composed: Compose, run: Path, *more: str, **arguments: Any) -> OwnLogger:
    run.mkdir(exist_ok=True)
    values = "".join(f", {name}: {value}" for name, value in arguments.items())
    train(composed(*QUICK, "logger=csv", f"+logger.own={{_target_: {OWN}{values}}}", *more), run)
    return OwnLogger.made[-1]


def test_an_own_logger_gets_hyperparameters_metrics_pictures_and_the_status(composed: Compose, tmp_path: Path) -> None:
    run = tmp_path / "run"
    logger = train_with(composed, run, PICTURES)
    (listed,) = logger.got("log_hyperparams")
    assert (listed["optimizer"]["lr"], listed["seed"]) == (0.1, 0)
    curve = [(step, row["val/acc"]) for step, row in logger.got("log_metrics") if "val/acc" in row]
    assert curve == csv_curve(run, "val/acc")
    last = {name: value for _, row in logger.got("log_metrics") for name, value in row.items()}
    assert {name: last[name] for name in saved_metrics(run)} == saved_metrics(run)
    pictures = [(step, name) for step, name, _ in logger.got("log_image")]
    assert (15, "boundary") in pictures
    assert pictures[-2:] == [(40, "confusion_matrix"), (40, "boundary")]
    assert logger.got("finalize")[-1] == "success"
    assert read_record(run)["loggers"] == {"own": "new-1"}


def test_a_resumed_run_continues_the_run_of_its_logger(composed: Compose, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_with(composed, run, run_id="theirs")
    more = [f"ckpt_path={run}/checkpoints/last.ckpt", "trainer.max_epochs=3"]
    assert train_with(composed, run, *more).run_id == "theirs"
    assert read_record(run)["loggers"] == {"own": "theirs"}
    assert train_with(composed, tmp_path / "another").run_id == "new-1"


@pytest.mark.parametrize(
    ("fails", "count"), [("log_metrics", 3), ("log_metrics", 1), ("log_image", 2), ("finalize", 1), ("finalize", 2)]
)
def test_a_logger_that_fails_is_one_warning_and_the_run_is_whole(
    fails: str, count: int, composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        logger = train_with(composed, tmp_path / "run", PICTURES, fails=fails, count=count)
    assert caplog.messages == ["logger.own has failed and gets nothing more of this run: the server"]
    assert len(logger.got(fails)) == count
    assert read_record(tmp_path / "run")["status"] == "completed"
    assert saved_metrics(tmp_path / "run")["test/acc"] > 0.9
    assert Path("plots/boundary.png").exists()


def test_a_logger_that_cannot_begin_is_one_line(composed: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train_with(composed, tmp_path / "run", fails="log_hyperparams")
    assert caught.value.problems == ["logger.own cannot begin: the server"]
    assert read_record(tmp_path / "run")["status"] == "failed"


def test_a_failed_run_has_failed_for_its_logger(composed: Compose, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError):
        train_with(composed, tmp_path / "run", "optimizer.lr=1e30")
    assert OwnLogger.made[-1].got("finalize")[-1] == "failed"


def test_an_id_that_no_run_json_may_have_is_not_recorded(composed: Compose, tmp_path: Path) -> None:
    train_with(composed, tmp_path / "run", run_id="a/b")
    assert read_record(tmp_path / "run")["loggers"] == {}


def test_a_fast_dev_run_has_no_loggers(composed: Compose, tmp_path: Path) -> None:
    assert train_with(composed, tmp_path / "run", "trainer.fast_dev_run=true").calls == []
