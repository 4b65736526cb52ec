"""Whether a logger can work on this machine, and what it gets of an earlier attempt."""

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest
from lightning.pytorch import loggers
from omegaconf import OmegaConf

from backlit.config.loggers import check_available, resumed_arguments, run_argument
from backlit.loggers import CometLogger, MetricsCSV, MLFlowLogger
from backlit.training.build import find_problems
from tests.conftest import Compose

if TYPE_CHECKING:
    from somewhere import Client  # type: ignore[import-not-found]


class HalfAnnotatedLogger(loggers.CSVLogger):
    """One of a user's own, whose annotations only a type checker can resolve."""

    def __init__(self, save_dir: str, client: "Client | None" = None, id: str | None = None) -> None:
        super().__init__(save_dir)


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("comet", "comet_ml")])
def test_a_logger_that_is_not_installed_is_one_line_with_its_extra(
    name: str, package: str, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted, *more: None if wanted == package else find(wanted))
    (line,) = find_problems(composed("experiment=points", f"logger={name}"))
    assert line == f"logger.{name}: needs the package {package}: pip install 'backlit[{name}]'"


def test_wandb_needs_a_login_unless_it_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    node = OmegaConf.create({"_target_": "lightning.pytorch.loggers.WandbLogger"})
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(ValueError, match=r"W&B needs a login \(nobody is logged in\): type wandb login, or add"):
        check_available(node)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    check_available(node)
    monkeypatch.undo()
    for offline in ({"offline": True}, {"mode": "offline"}, {"mode": "disabled"}):
        check_available(OmegaConf.merge(node, offline))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (loggers.WandbLogger, "id"),
        (loggers.MLFlowLogger, "run_id"),
        (MLFlowLogger, "run_id"),
        (CometLogger, "experiment_key"),
        (HalfAnnotatedLogger, "id"),
        (loggers.CSVLogger, None),
        (MetricsCSV, None),
        (print, None),
    ],
)
def test_the_argument_that_continues_a_run_is_known_by_its_name(kind: Any, name: str | None) -> None:
    assert run_argument(kind) == name


def test_a_resumed_run_continues_what_its_loggers_had() -> None:
    wandb = OmegaConf.create({"_target_": "lightning.pytorch.loggers.WandbLogger"})
    board = OmegaConf.create({"_target_": "backlit.loggers.TensorBoardLogger"})
    assert resumed_arguments(wandb, 7, "abc") == {"id": "abc"}
    assert resumed_arguments(wandb, 7, None) == resumed_arguments(wandb, None, "abc") == {}
    assert resumed_arguments(OmegaConf.merge(wandb, {"id": "mine"}), 7, "abc") == {}  # type: ignore[arg-type]
    assert resumed_arguments(board, 7, None) == {"purge_step": 7}


def test_any_logger_is_built_whatever_its_annotations(composed: Compose) -> None:
    target = "+logger.x={_target_: tests.config.test_loggers.HalfAnnotatedLogger, save_dir: x"
    assert find_problems(composed("experiment=points", target + "}")) == []
    (line,) = find_problems(composed("experiment=points", target + ", id: 3}"))
    assert line == "logger.x.id must be str or null, got 3"
    plain = "+logger.x={_target_: lightning.pytorch.loggers.WandbLogger, offline: true, save_dir: x}"
    if importlib.util.find_spec("wandb"):
        assert find_problems(composed("experiment=points", plain)) == []
