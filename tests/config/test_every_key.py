"""Every key of every config with hostile values: one line a problem and nothing built, or a run that is right."""

import copy
import importlib.util
import math
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from backlit.config.conf import CONFIG_DIR
from backlit.errors import ConfigError
from backlit.training.build import build_run
from backlit.training.train import train
from tests.helpers.commands import compose_config
from tests.helpers.own_files import write_pictures, write_table

HOSTILE: list[Any] = [
    *(math.nan, math.inf, -math.inf, 1e400, 1e-320, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2**31, 2**32, 10**30),
    *(None, "", "text", "auto", "1e-3", "/nowhere/file", "${x}", True, False),
    *([], [0.1], [1, 2], [True], ["a", None], {}, {"a": 1}),
]
# Experiments whole, and each option of each group by itself.
WHOLE = [["experiment=mnist_mlp"], ["experiment=points"], ["data=csv", "data.file=table.csv", "task_name=table"]]
WHOLE += [["data=image_folder", "data.data_dir=pictures", "model=cnn", "task_name=pictures"]]
OPTIONS = [
    ("experiment=points", f"{path.parent.name}={path.stem}")
    for group in ("optimizer", "scheduler", "trainer", "callbacks", "debug")
    for path in sorted((CONFIG_DIR / group).glob("*.yaml"))
    if path.stem not in ("gpu", "mps", "ddp", "fsdp", "device_stats")  # what a machine may not have
]
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}
LOGGERS = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
# A run of two epochs in a quarter of a second.
TINY = ["data.train_size=20", "data.val_size=10", "data.test_size=10", "data.passes_per_epoch=2", "data.batch_size=4"]
TINY += ["callbacks=none", "trainer.max_epochs=2", "trainer.accelerator=cpu"]
# Accepted values of these make a run endless, or one of several processes.
NOT_TINY = {"trainer.max_epochs", "trainer.devices", "trainer.strategy"}


@pytest.fixture(autouse=True)
def own_files(in_tmp_path: Path) -> None:
    """The table and the folder that are named above."""
    write_table(in_tmp_path / "table.csv")
    write_pictures(in_tmp_path / "pictures")


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the places of all values, an empty mapping and null included."""
    for key in map(str, node):
        child: Any = None if OmegaConf.is_interpolation(node, key) else node[key]
        if OmegaConf.is_dict(child) and child:
            yield from leaves(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def cases(*more: str) -> list[tuple[DictConfig, str, Any]]:
    """Return each config with each of its keys and each hostile value."""
    found = []
    for overrides in WHOLE:
        config = composed(*overrides, *(more if "points" in overrides[0] else ()))
        found += [(config, leaf, value) for leaf in leaves(config) for value in HOSTILE]
    for experiment, option in OPTIONS:
        group = option.partition("=")[0]
        config = composed(experiment, *(each for each in more if not each.startswith(f"{group}=")), option)
        group = "trainer" if group == "debug" else group
        found += [(config, leaf, value) for leaf in leaves(config) if leaf.startswith(f"{group}.") for value in HOSTILE]
    for name in LOGGERS:
        config = composed("experiment=points", f"logger={name}", *more)
        config.logger[name].update({} if name == "mlflow" else {"offline": True})  # nobody is logged in
        found += [(config, leaf, value) for leaf in leaves(config) if leaf.startswith("logger.") for value in HOSTILE]
    return found


def composed(*overrides: str) -> DictConfig:
    """Return a config without Hydra's own part, which is large and read by nothing here."""
    config = compose_config(*overrides)
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def changed(config: DictConfig, leaf: str, value: Any) -> DictConfig:
    config = copy.deepcopy(config)
    with open_dict(config):
        OmegaConf.update(config, leaf, value, merge=False)
    return config


def check(case: tuple[DictConfig, str, Any]) -> bool:
    """Return whether a value is accepted; assert that a rejected one is named by its key, once."""
    config, leaf, value = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, about what a machine has
        problems = problems_of(changed(config, leaf, value))
    # One about the key itself, and maybe one about what it has to fit.
    assert len([line for line in problems if line.startswith(leaf)]) <= 1, (leaf, value, problems)
    assert all("\n" not in line and len(line) < 800 for line in problems)
    return not problems


def problems_of(config: DictConfig) -> list[str]:
    try:
        build_run(config, Path("run"))
    except ConfigError as error:
        return error.problems
    return []


def is_number(config: DictConfig, leaf: str) -> bool:
    value = OmegaConf.select(config, leaf)
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_no_number_may_be_nan_or_infinite() -> None:
    numbers = {leaf: config for config, leaf, value in cases() if value is None and is_number(config, leaf)}
    assert len(numbers) > 40
    for leaf, config in numbers.items():
        assert not check((config, leaf, math.nan)), leaf
        assert not check((config, leaf, math.inf)), leaf


def test_a_hostile_value_is_one_line_or_accepted() -> None:
    chosen = random.Random(0).sample(cases(), 150)
    accepted = sum(map(check, chosen))
    assert 5 < accepted < 40


@pytest.mark.soak
def test_every_hostile_value_of_every_key_is_one_line_or_accepted() -> None:
    accepted = sum(map(check, cases()))
    assert accepted < 0.15 * len(cases())


def run_accepted(choose: Callable[[list[Any]], list[Any]]) -> int:
    """Train with chosen values that are accepted, and return how many runs came to their end."""
    tiny = [
        case
        for case in cases(*TINY)
        if case[0].task_name not in ("mnist_mlp", "table", "pictures")
        and case[0].trainer.devices == 1
        and case[1] not in NOT_TINY
        and not set(case[0].logger) & set(LOGGERS)  # whose servers decide what they take
    ]
    ended = 0
    for config, leaf, value in choose(tiny):
        if not check((config, leaf, value)):
            continue
        shutil.rmtree("run", ignore_errors=True)
        Path("run").mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                metrics = train(changed(config, leaf, value), Path("run"))
            except FloatingPointError:
                assert leaf in ("optimizer.lr", "optimizer.weight_decay", "scheduler.div_factor"), (leaf, value)
            else:
                stages = {name.partition("/")[0] for name in metrics}
                assert "test" in stages or leaf == "test", (leaf, value, metrics)
        ended += 1
    return ended


@pytest.mark.slow
def test_what_is_accepted_trains() -> None:
    assert run_accepted(lambda cases: random.Random(1).sample(cases, 40)) >= 2


@pytest.mark.soak
def test_whatever_is_accepted_trains() -> None:
    assert run_accepted(list) > 300
