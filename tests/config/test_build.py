from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from omegaconf import open_dict

from backlit.arguments import PositiveInt
from backlit.config.build import followed
from backlit.data import MNISTDataModule, PointsDataModule
from backlit.models import BinaryClassifier, MulticlassClassifier
from backlit.training.build import build_run, find_problems
from tests.helpers.commands import compose_config


def test_what_is_null_in_a_model_follows_the_data() -> None:
    null = {"in_features": None, "input_shape": None, "num_classes": None, "dropout": None}
    assert followed(null, MNISTDataModule()) == {"in_features": 784, "input_shape": (1, 28, 28), "num_classes": 10}
    assert followed({"in_features": None, "num_classes": 3}, PointsDataModule()) == {"in_features": 2}


def test_a_network_is_given_what_the_data_do_not_have() -> None:
    assert followed({"num_classes": None}, lightning.LightningDataModule()) == {}
    with pytest.raises(
        ValueError, match=r"^in_features and num_classes must be given, since the data do not have them"
    ):
        MulticlassClassifier(in_features=None)
    with pytest.raises(ValueError, match=r"^in_features must be given, since the data do not have it"):
        BinaryClassifier(in_features=None)


class Own(lightning.LightningModule):
    def __init__(self, num_classes: PositiveInt, optimizer: Any = None, scheduler: Any = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, num_classes)

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.layer(inputs)


class NoClasses(PointsDataModule):
    num_classes = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("data", "num_classes", "problems"),
    [
        ("backlit.data.PointsDataModule", None, []),
        ("backlit.data.PointsDataModule", 0, ["model.num_classes must be >= 1, got 0"]),
        (
            f"{__name__}.NoClasses",
            None,
            [
                "model.num_classes must be given, since NoClasses has no num_classes that null could follow "
                "(set it in __init__): model.num_classes=..."
            ],
        ),
    ],
)
def test_the_annotation_of_an_own_model_needs_no_none(
    data: str, num_classes: int | None, problems: list[str], tmp_path: Path
) -> None:
    cfg = compose_config("experiment=points", "trainer=cpu", "optimized_metric=val_loss", "optimized_mode=min")
    with open_dict(cfg):
        cfg.model = {"_target_": f"{__name__}.Own", "num_classes": num_classes}
        cfg.data._target_ = data
    assert find_problems(cfg, is_recorded=False) == problems
    if not problems:
        assert build_run(cfg, tmp_path).model(torch.zeros(1, 2)).shape == (1, 2)
