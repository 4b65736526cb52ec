from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from backlit.config.conf import CONFIG_DIR
from backlit.sweeps.templates import Templates

# What may be typed for a job, each alone and together with others, in any order.
OVERRIDES = [
    "seed=3",
    "seed=${trainer.max_epochs}",
    "data.seed=7",
    "optimizer=sgd",
    "optimizer.lr=0.1",
    "optimizer.lr=1e-3",
    "optimizer.lr=null",
    "optimizer.lr=???",
    "+optimizer.momentum=0.9",
    "++optimizer.eps=1e-5",
    "~optimizer.lr",
    "~optimizer.lr=0.1",
    "model.hidden_sizes=[8,4]",
    "model.hidden_sizes=[]",
    "+model.hidden_sizes=[1]",
    "model.activation='a, b=c'",
    "model={_target_: x, a: {b: 1}}",
    "model=cnn",
    "tags=[a,'b c',1.5,true]",
    "task_name=a b",
    r"task_name=x\,y",
    "task_name=${now:%Y}_${hydra:job.num}",
    "trainer=ddp_cpu",
    "trainer.devices=2",
    "trainer.precision=bf16-mixed",
    "search={}",
    "search={lr: 'interval(0,1)', new: 1}",
    "callbacks=none",
    "callbacks.epoch_lines=null",
    "~callbacks.epoch_lines",
    "logger=[tensorboard,csv]",
    "+logger@more=csv",
    "scheduler=cosine",
    "sweep=lr",
    "zoom=1",
    "experiment=mnist_cnn",
    "debug=fast",
    "hydra.job.config.override_dirname.item_sep=;",
    "hydra.job.config.override_dirname.exclude_keys=[seed]",
    "nothing=1",
    "optimizer.nothing=1",
    "optimizer=nothing",
    "seed=1,2",
    "optimizer/x=1",
]


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def sweep_config(loader: ConfigLoader) -> DictConfig:
    typed = ["experiment=points", "hydra.launcher.n_jobs=2", "seed=1,2"]
    return loader.load_configuration("train", typed, RunMode.MULTIRUN)


@pytest.fixture(scope="module")
def templates(loader: ConfigLoader, sweep_config: DictConfig) -> Templates:
    return Templates(sweep_config, loader)


def content(config: DictConfig) -> Any:
    """Return all that a job may read of a config: what is written, what it comes to, what may be added to it."""
    with open_dict(config):
        config.hydra.job.num, config.hydra.job.id = 3, "03"
        config.hydra.runtime.cwd = "."  # each test has its own, a sweep one
    HydraConfig.instance().set_config(config)
    try:
        return _read(config)
    finally:
        HydraConfig.instance().cfg = None  # what trains later in this process would take it for its own


def _read(config: DictConfig) -> Any:
    values = {}
    for key in ("seed", "task_name", "data.seed", "hydra.sweep.subdir", "hydra.job.override_dirname"):
        try:
            values[key] = OmegaConf.select(config, key)
        except Exception as error:
            values[key] = str(error)
    structs = {key: OmegaConf.is_struct(config[key]) for key in ("optimizer", "model", "hydra")}
    return repr(OmegaConf.to_container(config)), values, structs, OmegaConf.get_cache(config)


def compare(templates: Templates, loader: ConfigLoader, sweep_config: DictConfig, overrides: list[str]) -> None:
    """Compare what a job's config is, or why there is none, with what Hydra's loader makes of the overrides."""
    expected, found = (
        _outcome(compose, overrides)
        for compose in (lambda each: loader.load_sweep_config(sweep_config, each), templates.compose)
    )
    assert found == expected


def _outcome(compose: Callable[[list[str]], DictConfig], overrides: list[str]) -> Any:
    try:
        return content(compose(overrides))
    except HydraException as error:
        return type(error), str(error)


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_job_is_composed_as_by_hydra(
    override: str, templates: Templates, loader: ConfigLoader, sweep_config: DictConfig
) -> None:
    compare(templates, loader, sweep_config, ["experiment=points", override])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(overrides=st.lists(st.sampled_from(OVERRIDES[:-6]), min_size=2, max_size=5, unique=True))
def test_overrides_in_any_order_are_composed_as_by_hydra(
    overrides: list[str], templates: Templates, loader: ConfigLoader, sweep_config: DictConfig
) -> None:
    compare(templates, loader, sweep_config, overrides)


def test_jobs_that_differ_in_values_share_a_template_and_nothing_else(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = templates.compose(["experiment=points", "scheduler=cosine", "seed=1"])
    known = dict(templates.learned[0])
    monkeypatch.setattr(templates, "_loader", None)
    first.optimizer.lr, first.seed = 5.0, 9
    second = templates.compose(["experiment=points", "optimizer.lr=0.2", "scheduler=cosine", "seed=2"])
    assert (second.optimizer.lr, second.seed, templates.learned[0]) == (0.2, 2, known)
