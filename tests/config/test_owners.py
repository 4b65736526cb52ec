from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from backlit.config.conf import CONFIG_DIR
from backlit.config.owners import key_owners
from backlit.training.build import find_problems

EXPERIMENT = """# @package _global_
defaults:
  - override /data: points
  - override /model: binary_mlp
model:
  num_classes: 2
  hidden_sizes: [4]
"""


@pytest.mark.parametrize(
    ("overrides", "problems"),
    [
        (
            ["experiment=own"],
            [
                "experiment/own sets model.num_classes, which BinaryClassifier does not take; "
                "drop it with ~model.num_classes"
            ],
        ),
        (["experiment=own", "~model.num_classes"], []),
        (["experiment=own", "model.num_classes=3"], ["model.num_classes: BinaryClassifier has no such argument"]),
        (["experiment=points", "+model.dropuot=1"], ["model.dropuot: BinaryClassifier has no such argument, did you"]),
    ],
)
def test_who_sets_a_key_that_a_class_does_not_take_is_named(
    overrides: list[str], problems: list[str], tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(EXPERIMENT)
    searched = f"hydra.searchpath=['file://{tmp_path}']"
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", [searched, *overrides], return_hydra_config=True)
    found = find_problems(cfg)
    assert [line[: len(start)] for line, start in zip(found, problems, strict=True)] == problems


def test_a_config_without_hydras_part_has_no_owners() -> None:
    assert key_owners(OmegaConf.create({"model": {"width": 3}})) == {}
