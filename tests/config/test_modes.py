"""The mode of what is monitored follows the metric; one that contradicts it is rejected."""

from pathlib import Path
from typing import Any

import pytest
from lightning import LightningModule

from backlit.config.conf import search_direction
from backlit.config.modes import choose_modes
from backlit.training.build import build_run, find_problems
from tests.conftest import Compose


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        ([], "max"),
        (["optimized_metric=val/loss"], "min"),
        (["optimized_metric=val/ece"], "min"),
        (["optimized_metric=val/auroc", "optimized_mode=max"], "max"),
        (["experiment=points"], "min"),
        (["experiment=points", "optimized_metric=val/acc"], "max"),
    ],
)
def test_the_mode_follows_the_metric(overrides: list[str], mode: str, composed: Compose) -> None:
    config = composed(*overrides)
    parts = build_run(config, Path("run"))
    assert parts.config["optimized_mode"] == mode
    assert parts.best is not None
    assert (parts.best.monitor, parts.best.mode) == (config.optimized_metric, mode)
    assert search_direction(config.optimized_metric, config.optimized_mode) == f"{mode}imize"


@pytest.mark.parametrize(("monitor", "mode"), [("val/loss", "min"), ("val/acc", "max"), ("val/ece", "min")])
def test_the_mode_of_plateau_follows_its_monitor(monitor: str, mode: str, composed: Compose) -> None:
    parts = build_run(composed("scheduler=plateau", f"scheduler.monitor={monitor}"), Path("run"))
    assert parts.config["scheduler"]["mode"] == mode


CALLBACK = "+callbacks.own={{_target_: lightning.pytorch.callbacks.{}, monitor: {}, mode: {}}}"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["optimized_metric=val/loss", "optimized_mode=max"],
            "optimized_mode must be min or null for val/loss, got max",
        ),
        (["optimized_mode=min"], "optimized_mode must be max or null for val/acc, got min"),
        (
            ["scheduler=plateau", "scheduler.monitor=val/acc", "scheduler.mode=min"],
            "scheduler.mode must be max or null for val/acc, got min",
        ),
        (
            [CALLBACK.format("EarlyStopping", "val/acc", "min")],
            "callbacks.own.mode must be max or null for val/acc, got min",
        ),
        (
            [CALLBACK.format("ModelCheckpoint", "val/loss", "max")],
            "callbacks.own.mode must be min or null for val/loss, got max",
        ),
    ],
)
def test_a_mode_that_contradicts_its_metric_is_one_clear_line(
    overrides: list[str], line: str, composed: Compose
) -> None:
    assert find_problems(composed(*overrides)) == [line]


def test_a_search_by_a_metric_of_an_unknown_direction_needs_the_mode() -> None:
    assert search_direction("val/score", "max") == "maximize"
    with pytest.raises(ValueError, match=r"^optimized_mode must be min or max for a search by val/score, got null$"):
        search_direction("val/score", None)


@pytest.mark.parametrize(("metric", "mode"), [("val_loss", "min"), ("val_acc", "max")])
def test_an_obvious_metric_of_somebodys_module_needs_no_mode(metric: str, mode: str) -> None:
    config: dict[str, Any] = {"optimized_metric": metric, "optimized_mode": None, "scheduler": {}}
    assert list(choose_modes(config, LightningModule())) == []
    assert config["optimized_mode"] == mode


def test_another_metric_of_somebodys_module_needs_the_mode() -> None:
    config: dict[str, Any] = {"optimized_metric": "val_score", "optimized_mode": None, "scheduler": {}}
    (line,) = choose_modes(config, LightningModule())
    assert line == "optimized_mode must be min or max for val_score, of which it is not known, got null"
    config["optimized_mode"] = "max"
    assert list(choose_modes(config, LightningModule())) == []
