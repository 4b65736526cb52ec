import logging
import warnings
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from backlit.errors import ConfigError
from backlit.sweeps.search import prepare_search

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # SQLAlchemy's, about this version of Optuna
    import optuna
    from optuna.trial import TrialState

SPACE: dict[str, optuna.distributions.BaseDistribution] = {"lr": optuna.distributions.UniformDistribution(0, 1)}


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """A stopped search: one trial with a result, one that was running, one that failed."""
    optuna.logging.set_verbosity(logging.WARNING)
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    trials = [study.ask(SPACE) for _ in range(3)]
    study.tell(trials[0], 0.5)
    study.tell(trials[2], state=TrialState.FAIL)
    return study


def config(tmp_path: Path) -> DictConfig:
    sweeper = {"storage": f"sqlite:///{tmp_path}/optuna.db", "study_name": "s", "n_trials": 5, "sampler": {"seed": 3}}
    return OmegaConf.create({"hydra": {"sweeper": sweeper}})


def test_a_resumed_search_repeats_the_trials_without_a_result_first(study: optuna.Study, tmp_path: Path) -> None:
    resumed = config(tmp_path)
    prepare_search(resumed, is_resumed=True)
    reloaded = optuna.load_study(study_name="s", storage=resumed.hydra.sweeper.storage)
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL, TrialState.WAITING, TrialState.WAITING]
    assert [trial.state for trial in reloaded.trials] == states
    lost = [trial.params["lr"] for trial in reloaded.trials[1:3]]
    assert [reloaded.ask(SPACE).params["lr"] for _ in lost] == lost
    assert resumed.hydra.sweeper.n_trials == 4
    assert resumed.hydra.sweeper.sampler.seed > 3  # with the same seed the sampler would propose the same again


def test_a_new_search_is_left_as_it_is(study: optuna.Study, tmp_path: Path) -> None:
    new = config(tmp_path)
    prepare_search(new, is_resumed=False)
    assert new == config(tmp_path)
    assert len(study.trials) == 3


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("n_trials", 0, "hydra.sweeper.n_trials must be >= 1, got 0"),
        ("max_failure_rate", 2.0, "hydra.sweeper.max_failure_rate must be >= 0 and <= 1 or null, got 2.0"),
        ("max_failure_rate", float("nan"), "hydra.sweeper.max_failure_rate must be >= 0 and <= 1 or null, got nan"),
        ("sampler.seed", -1, "hydra.sweeper.sampler.seed must be >= 0 and < 4294967296 or null, got -1"),
    ],
)
def test_a_key_out_of_its_range_is_named(tmp_path: Path, key: str, value: object, line: str) -> None:
    wrong = config(tmp_path)
    OmegaConf.update(wrong, f"hydra.sweeper.{key}", value)
    with pytest.raises(ConfigError, match=line):
        prepare_search(wrong, is_resumed=False)
