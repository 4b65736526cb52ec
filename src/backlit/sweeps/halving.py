"""The pruner ``asha``: asynchronous successive halving, of trials at equal optimizer steps."""

import optuna
from optuna.trial import FrozenTrial, TrialState


class StepHalving(optuna.pruners.BasePruner):
    """Lets the better half of the trials go on at each rung: their 1st, 2nd, 4th, 8th, ... value.

    A trial is compared with those that have come at least as far, and with completed ones, each at its last value that
    took no more optimizer steps. Optuna's own halving has the same steps as rungs for all trials: with batch sizes that
    vary, those with long epochs would enter a rung with values of many more steps, or those with short ones reach none.

    Source of successive halving without waiting: Li et al., A System for Massively Parallel Hyperparameter Tuning,
    2018, https://arxiv.org/abs/1810.05934.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether a trial is not worth going on.

        Args:
            study: The study.
            trial: The trial, with its values by optimizer step: the best so far, so that they never get worse.
        """
        number, step = len(trial.intermediate_values), trial.last_step
        if step is None or number & (number - 1):  # not a power of two
            return False
        states = (TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE)
        sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
        peers = []
        for other in study.get_trials(deepcopy=False, states=states):
            values = {at: value for at, value in other.intermediate_values.items() if at <= step}
            has_come_as_far = other.state == TrialState.COMPLETE or (other.last_step or 0) >= step
            if values and has_come_as_far:
                peers.append(sign * values[max(values)])
        kept = sorted(peers)[: max(1, len(peers) // 2)]
        return sign * trial.intermediate_values[step] > kept[-1]
