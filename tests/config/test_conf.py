"""The YAML files: every option composes, and agrees with the signatures; the values that they compute."""

import inspect
from typing import Any

import lightning
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from backlit.config.conf import CONFIG_DIR, job_name, values_around
from backlit.config.known_arguments import FOLLOWED
from backlit.training.build import find_problems
from tests.conftest import Compose

OPTIONS = sorted(
    path.relative_to(CONFIG_DIR).with_suffix("").as_posix()
    for path in CONFIG_DIR.glob("*/*.yaml")
    if path.parent.name != "hydra"
)
# What a machine may not have is composed, but not built.
NOT_EVERYWHERE = {
    "trainer/gpu": "No supported gpu backend found",
    "trainer/ddp": "No supported gpu backend found",
    "trainer/fsdp": "No supported gpu backend found",
    "trainer/mps": "MPSAccelerator",
    "callbacks/device_stats": "needs psutil",
    "data/fashion_mnist": "FashionMNIST is not in",
    "data/kmnist": "KMNIST is not in",
    "data/qmnist": "QMNIST is not in",
    "data/csv": "data.file must be given: data.file=...",
    "data/image_folder": "data.data_dir must be given: data.data_dir=...",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_instantiates(option: str, composed: Compose) -> None:
    group, name = option.split("/")
    overrides = [f"{group}={name}"]
    if option == "data/points":
        overrides.append("model=binary_mlp")
    if option == "model/binary_mlp":
        overrides.append("data=points")
    if group == "logger" and name in ("wandb", "mlflow", "comet"):
        pytest.importorskip("comet_ml" if name == "comet" else name)
        overrides += [f"logger.{name}.offline=true"] if name != "mlflow" else []
    if group == "trainer" and "ddp" in name:
        overrides.append("data.batch_size=64")
    found = find_problems(composed(*overrides))
    if option in NOT_EVERYWHERE and not (group != "data" and not found):  # this machine may have it
        assert len(found) == 1
        assert NOT_EVERYWHERE[option] in found[0]
    else:
        assert found == []


@pytest.mark.parametrize("experiment", [path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml")])
def test_an_experiment_says_its_command(experiment: str) -> None:
    text = (CONFIG_DIR / "experiment" / f"{experiment}.yaml").read_text()
    assert f"backlit-train experiment={experiment}" in text


@pytest.mark.parametrize(
    "option",
    ["data/mnist", "data/points", "data/csv", "data/image_folder", "model/mlp", "model/binary_mlp", "model/cnn"],
)
def test_yaml_and_signature_have_the_same_defaults(option: str) -> None:
    node = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / f"{option}.yaml"))
    assert isinstance(node, dict)
    signature = inspect.signature(get_class(node["_target_"])).parameters
    for key, value in node.items():
        if value is None and key in FOLLOWED:
            continue  # that of the data
        if key not in ("_target_", "seed") and value != "???":
            default: Any = signature[str(key)].default
            assert value == (list(default) if isinstance(default, tuple) else default), key
    # Whatever the class takes can be typed on the command line.
    assert set(signature) - {"optimizer", "scheduler"} <= {str(key) for key in node}


def test_every_ordinary_trainer_flag_is_declared(composed: Compose) -> None:
    flags = set(inspect.signature(lightning.Trainer).parameters)
    not_flags = {"logger", "callbacks", "plugins", "default_root_dir", "enable_checkpointing", "barebones"}
    not_flags |= {"model_registry", "enable_autolog_hparams"}
    assert flags - not_flags <= set(composed().trainer)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", "7"),
        ("optimizer.lr=0.01", "7_optimizer.lr_0.01"),
        ("optimizer.lr=0.01,+optimizer.eps=1e-06", "7_optimizer.lr_0.01+optimizer.eps_1e-06"),
        ("model.hidden_sizes=[4,4],optimizer.lr=0.12520653814999466", "7_model.hidden_sizes_4-4+optimizer.lr_0.1252"),
        ("ckpt_path='a b/c=d.ckpt'", "7_ckpt_path_-a-b-c_d.ckpt"),
        ("tags=[" + "x" * 300 + "]", "7_tags_" + "x" * 115),
    ],
)
def test_a_job_is_named_by_its_number_and_its_overrides(overrides: str, name: str) -> None:
    assert job_name(7, overrides) == name


def test_values_around_a_value_are_two_a_decade() -> None:
    values = [float(value) for value in values_around(0.1).split(",")]
    assert values == pytest.approx([10 ** (-1 + half / 2) for half in range(-3, 4)], rel=0.03)
