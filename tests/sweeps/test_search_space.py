from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import open_dict
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from backlit.config.conf import CONFIG_DIR
from backlit.errors import ConfigError
from backlit.sweeps.search_space import SearchSpace, read_space


def read(*typed: str, experiment: str = "points", **search: str | None) -> SearchSpace:
    """Return the space of a search of an experiment; `search` is in its config."""
    composed = [argument for argument in typed if "(" not in argument and "," not in argument]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}", "sweep=optuna", *composed], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
    with open_dict(config):
        for key, value in search.items():
            config.search[key.replace("__", ".")] = value
    return read_space(config, [f"experiment={experiment}", *typed], loader)


def read_one(value: str) -> Any:
    return read(optimizer__lr=value).distributions["optimizer.lr"]


@pytest.mark.parametrize(
    ("value", "distribution"),
    [
        ("interval(0.1,2)", FloatDistribution(0.1, 2)),
        ("interval(1,2)", FloatDistribution(1, 2)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("range(1,10,2)", IntDistribution(1, 9, step=2)),
        ("range(9,0,-2)", IntDistribution(1, 9, step=2)),
        ("range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("1,2,2", CategoricalDistribution(["1", "2"])),
        ("choice(a,b)", CategoricalDistribution(["a", "b"])),
        ("choice([1],[2,3])", CategoricalDistribution(["[1]", "[2,3]"])),
        ("choice('[1]','[2,3]')", CategoricalDistribution(["[1]", "[2,3]"])),  # as hydra-optuna-sweeper needs it
        ("choice('a b',c)", CategoricalDistribution([r"a\ b", "c"])),
        ("true,null", CategoricalDistribution(["True", "null"])),
    ],
)
def test_hydras_grammar_becomes_optunas_distribution(value: str, distribution: Any) -> None:
    assert read_one(value) == distribution


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("interval(2,1)", "optimizer.lr must be an interval from a number to one that is not smaller, got interval"),
        ("interval(0,inf)", "optimizer.lr must be an interval from a number to one that is not smaller, got interval"),
        ("tag(log,interval(0,1))", "optimizer.lr must be > 0 at both ends of an interval with tag log, got "),
        ("range(3,1)", "optimizer.lr must be a range with a value, and without tags, got range"),
        ("0.1", "a search must vary something, got no list, range or interval"),
    ],
)
def test_what_cannot_be_drawn_from_is_named(value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_one(value)
    assert str(caught.value).startswith(message)


def test_a_typed_key_replaces_the_experiments_range() -> None:
    own = read().distributions
    assert own["optimizer.lr"] == FloatDistribution(0.01, 1, log=True)
    assert own["data.batch_size"] == CategoricalDistribution(["25", "50", "100"])
    assert own["model.hidden_sizes"] == CategoricalDistribution(["[2]", "[4]", "[8]", "[4,4]"])
    assert read("optimizer.lr=interval(1,2)").distributions == own | {"optimizer.lr": FloatDistribution(1, 2)}
    assert read("search.lr=interval(1,2)").distributions == own | {"optimizer.lr": FloatDistribution(1, 2)}
    fixed = read("optimizer.lr=0.3", "data.batch_size=50")
    assert list(fixed.distributions) == ["model.hidden_sizes"]
    assert fixed.fixed == ["experiment=points", "optimizer.lr=0.3", "data.batch_size=50"]
    assert read("optimizer=adam,sgd").distributions["optimizer"] == CategoricalDistribution(["adam", "sgd"])
    assert "sgd" in read("optimizer=glob(*)").distributions["optimizer"].choices  # type: ignore[attr-defined]


def test_a_search_key_that_nothing_uses_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"search.nope must be used by the search, but is not; there are search.batch"
    ):
        read("search.nope=interval(0,1)")


def test_whole_keys_of_an_experiment_are_all_that_is_drawn() -> None:
    space = read("data.batch_size=10,20", optimizer__weight_decay="interval(0,0.1)", model__dropout="choice(0,0.5)")
    assert list(space.distributions) == ["optimizer.weight_decay", "model.dropout", "data.batch_size"]
    assert list(read(lr=None, hidden_sizes=None).distributions) == ["data.batch_size"]


def test_a_key_that_the_model_lacks_is_left_out() -> None:
    assert list(read("~model.hidden_sizes").distributions) == ["optimizer.lr", "data.batch_size"]


def test_an_interval_of_whole_numbers_for_a_whole_number_has_whole_numbers() -> None:
    found = read("data.num_workers=interval(1,8)", "data.train_size=tag(log,interval(100,1000))").distributions
    assert found["data.num_workers"] == IntDistribution(1, 8)
    assert found["data.train_size"] == IntDistribution(100, 1000, log=True)
    assert read("optimizer.lr=interval(1,2)").distributions["optimizer.lr"] == FloatDistribution(1, 2)


def test_seeds_repeat_each_trial() -> None:
    space = read("seed=0,1", "data.seed=range(2)")
    assert "seed" not in space.distributions
    jobs = space.trial_overrides({"optimizer.lr": 0.5, "data.batch_size": "25", "model.hidden_sizes": "[2]"})
    drawn = ["experiment=points", "optimizer.lr=0.5", "data.batch_size=25", "model.hidden_sizes=[2]"]
    assert jobs == [[*drawn, f"seed={seed}", f"data.seed={data}"] for seed in (0, 1) for data in (0, 1)]
    with pytest.raises(ConfigError, match=r"seed must be a list of seeds, as in seed=0,1,2, .* got interval"):
        read("seed=interval(0,9)")


def test_the_corners_have_both_ends_and_every_choice() -> None:
    corners = read().corners()
    assert len(corners) == 4  # as many as the longest list
    assert {corner["optimizer.lr"] for corner in corners} == {0.01, 1}
    assert {corner["data.batch_size"] for corner in corners} == {"25", "50", "100"}
    assert {corner["model.hidden_sizes"] for corner in corners} == {"[2]", "[4]", "[8]", "[4,4]"}
