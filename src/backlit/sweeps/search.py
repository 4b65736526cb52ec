"""How a search by Optuna resumes; Hydra's sweeper would count its trials from 0."""

import logging
import warnings
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from backlit.arguments import Fraction, PositiveInt, Seed, Text, find_problem
from backlit.errors import ConfigError

_RANGES: dict[str, Any] = {
    "n_trials": PositiveInt,
    "max_failure_rate": Fraction | None,
    "sampler.seed": Seed | None,
    "storage": Text | None,
}


def prepare_search(config: DictConfig, *, is_resumed: bool) -> None:
    """Silence Optuna; make a resumed search first run its trials without a result, then the remaining ones.

    Args:
        config: The config of the sweep, which is changed; its ``hydra.sweeper`` may have a storage for the study.
        is_resumed: Whether the sweep existed before.

    Raises:
        ConfigError: If a key of the sweeper is out of its range.
    """
    sweeper = config.hydra.sweeper
    given = {key: OmegaConf.select(sweeper, key) for key in _RANGES}
    lines = (find_problem(f"hydra.sweeper.{key}", given[key], hint) for key, hint in _RANGES.items())
    if problems := [line for line in lines if line]:
        raise ConfigError(problems)
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    optuna.logging.set_verbosity(logging.WARNING)
    if not is_resumed or sweeper.storage is None:
        return

    def parameters(trial: FrozenTrial) -> dict[str, Any]:
        return trial.params or trial.system_attrs.get("fixed_params", {})

    study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    known = [parameters(trial) for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.WAITING))]
    for trial in study.get_trials(states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        # The same parameters mean the same job, which resumes, or returns the result that the study lacks.
        if trial.params and trial.params not in known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.enqueue_trial(trial.params)
            known.append(trial.params)
    completed = len(study.get_trials(states=(TrialState.COMPLETE,)))
    with open_dict(config):
        sweeper.n_trials = max(0, sweeper.n_trials - completed)
        # From the same seed the sampler would propose the same parameters.
        sweeper.sampler.seed = (sweeper.sampler.seed or 0) + len(study.trials)
