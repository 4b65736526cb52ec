"""Going on with a search by Optuna, whose sweeper of Hydra's would begin to count anew."""

import logging
import warnings
from typing import Any

from omegaconf import DictConfig, open_dict


def get_ready(config: DictConfig, *, is_resumed: bool) -> None:
    """Keep Optuna from talking; let a search that goes on first do its trials without a result, then what is left.

    Args:
        config: What the sweep was composed to; its ``hydra.sweeper`` keeps its study in a storage.
        is_resumed: Whether the sweep was there before.
    """
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    optuna.logging.set_verbosity(logging.WARNING)
    if not is_resumed or config.hydra.sweeper.storage is None:
        return

    def parameters(trial: FrozenTrial) -> dict[str, Any]:
        return trial.params or trial.system_attrs.get("fixed_params", {})

    sweeper = config.hydra.sweeper
    study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    known = [parameters(trial) for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.WAITING))]
    for trial in study.get_trials(states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        # The same parameters are the same job, which goes on, or gives the result that nobody was told.
        if trial.params and trial.params not in known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.enqueue_trial(trial.params)
            known.append(trial.params)
    completed = len(study.get_trials(states=(TrialState.COMPLETE,)))
    with open_dict(config):
        sweeper.n_trials = max(0, sweeper.n_trials - completed)
        # From the same seed the sampler would propose what it has proposed before.
        sweeper.sampler.seed = (sweeper.sampler.seed or 0) + len(study.trials)
