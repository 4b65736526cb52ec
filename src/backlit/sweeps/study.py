"""The study of a search: its trials, its sampler and its pruner."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy

from backlit.errors import ConfigError
from backlit.sweeps.journal import FIRST_STEP, JOURNAL, PLANNED_STEPS, check_study, open_journal, quiet, reading
from backlit.sweeps.search_space import SearchSpace
from backlit.text import printable

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random", "grid")
PRUNERS = ("asha", "median", "hyperband", "none")
# The overrides with which each trial is repeated.
_REPETITIONS = "repetitions"
# Trials before TPE and GP model the results, and before the median of others can end a trial.
_STARTUP_TRIALS = 5


@dataclass(frozen=True)
class StudySettings:
    """How a study proposes trials and ends them.

    Args:
        name: The study's name.
        direction: ``minimize`` or ``maximize``.
        sampler: One of `SAMPLERS`.
        pruner: One of `PRUNERS`.
        seed: Seeds the sampler.
    """

    name: str
    direction: Literal["minimize", "maximize"]
    sampler: str
    pruner: str
    seed: int


class Study:
    """A study in the journal of a sweep's directory; each process opens it by itself.

    Args:
        sweep_dir: The sweep's directory.
        settings: How it proposes trials and ends them.
        space: What is varied.

    Raises:
        ConfigError: If the sampler cannot draw from the space, if the journal cannot be read, or if it has trials of
            another space.
    """

    def __init__(self, sweep_dir: Path, settings: StudySettings, space: SearchSpace) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep_dir, self.settings, self.space = sweep_dir, settings, space
        check_sampler(settings.sampler, space)
        path = sweep_dir / JOURNAL
        with reading(path):
            self.storage = open_journal(path)
            self.study = optuna.create_study(
                storage=self.storage, study_name=settings.name, direction=settings.direction, load_if_exists=True
            )
            trials = self.study.get_trials(deepcopy=False)
            check_study(self.study)
        if self.study.direction.name.lower() != settings.direction:
            raise ConfigError([f"{path} must be the journal of a search that {settings.direction}s"])
        for trial in trials:
            # A kill while a trial was asked for has left some of its keys.
            if any(space.distributions.get(key) != drawn for key, drawn in trial.distributions.items()):
                raise ConfigError([_describe_difference(path, trial.distributions, space.distributions)])
        self._keep_repetitions(path)

    def _keep_repetitions(self, path: Path) -> None:
        """Write with which seeds each trial is repeated: the numbers of jobs depend on how many these are.

        Raises:
            ConfigError: If earlier trials were repeated with others.
        """
        earlier = self.study.user_attrs.get(_REPETITIONS)
        if earlier is None:
            self.study.set_user_attr(_REPETITIONS, self.space.repetitions)
        elif earlier != self.space.repetitions:
            shown = " and not ".join(printable(str(each))[:100] for each in (earlier, self.space.repetitions))
            raise ConfigError([f"a search that resumes must repeat trials with its seeds ({path}): with {shown}"])

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Return number and parameters of a new trial."""
        trials = self.study.get_trials(deepcopy=False)
        with quiet():
            self.study.sampler = self._make_sampler(len(trials))
            self.study.pruner = self._make_pruner()  # hyperband's brackets have samplers of their own
            trial = self.study.ask(self.space.distributions)
        return trial.number, trial.params

    def trials(self) -> "list[optuna.trial.FrozenTrial]":
        """Return all trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def report(self, number: int, values: Mapping[int, float], planned_steps: int) -> int | None:
        """Take note of the values of a running trial; return the step at which the trial turned out not to be worth it.

        Args:
            number: The trial.
            values: The optimized metric by the number of optimizer steps after which it was measured, in their order:
                trials are compared at equal steps. Those that are known already are ignored.
            planned_steps: The number of steps at which the trial ends.
        """
        import optuna

        trial_id = self._trial_id(number)
        known = self.storage.get_trial(trial_id).intermediate_values
        new = {step: value for step, value in values.items() if step not in known}
        if new and FIRST_STEP not in self.study.user_attrs:
            self.study.set_user_attr(FIRST_STEP, max(1, min(new)))
            self.study.set_user_attr(PLANNED_STEPS, max(1, planned_steps))
        self.study.pruner = self._make_pruner()
        trial = optuna.trial.Trial(self.study, trial_id)
        with quiet():
            for step, value in new.items():
                trial.report(value, step)
                if step < planned_steps and trial.should_prune():
                    return step
        return None

    def tell(self, number: int, value: float | None, state: str) -> None:
        """End a trial.

        Args:
            number: The trial.
            value: Its result, if it is complete.
            state: ``complete``, ``pruned`` or ``fail``.
        """
        import optuna

        self.study.tell(number, value, state=optuna.trial.TrialState[state.upper()], skip_if_finished=True)

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _make_sampler(self, n_trials: int) -> "optuna.samplers.BaseSampler":
        """Return the sampler for the next trial; the same one whether the search was interrupted or not."""
        from optuna import samplers

        # A process draws one trial: from one seed it would draw the same as the one before.
        seed = int(numpy.random.SeedSequence((self.settings.seed, n_trials)).generate_state(1)[0])
        if self.settings.sampler == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
        if self.settings.sampler == "cmaes":
            return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        if self.settings.sampler == "qmc":  # counts in the journal which points were drawn
            return samplers.QMCSampler(
                scramble=True, seed=self.settings.seed, warn_independent_sampling=False, warn_asynchronous_seeding=False
            )
        if self.settings.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if self.settings.sampler == "grid":
            return samplers.GridSampler(grid_values(self.space), seed=self.settings.seed)
        return samplers.TPESampler(
            seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True, warn_independent_sampling=False
        )

    def _make_pruner(self) -> "optuna.pruners.BasePruner":
        from optuna import pruners

        if self.settings.pruner == "asha":
            from backlit.sweeps.halving import StepHalving

            return StepHalving()
        first_step = self.study.user_attrs.get(FIRST_STEP)
        if self.settings.pruner == "none" or first_step is None:
            return pruners.NopPruner()
        if self.settings.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=first_step)
        planned = max(first_step, self.study.user_attrs[PLANNED_STEPS])
        return pruners.HyperbandPruner(min_resource=first_step, max_resource=planned, reduction_factor=2)


def grid_values(space: SearchSpace) -> dict[str, list[Any]]:
    """Return the values of each key of a space that can be listed."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    values: dict[str, list[Any]] = {}
    for key, distribution in space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            values[key] = list(distribution.choices)
        elif isinstance(distribution, IntDistribution) and not distribution.log:
            values[key] = list(range(distribution.low, distribution.high + 1, distribution.step))
        elif (step := getattr(distribution, "step", None)) is not None:
            low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
            values[key] = [low + index * step for index in range(round((high - low) / step) + 1)]
        else:
            rule = "must have lists or ranges of values for hydra.sweeper.sampler=grid"
            raise ConfigError([f"{key} {rule}, got an interval"])
    return values


def check_sampler(name: str, space: SearchSpace) -> None:
    """Raise `ConfigError` if a sampler cannot draw from a space."""
    from optuna.distributions import CategoricalDistribution

    if name == "grid":
        grid_values(space)
    numbers = [d for d in space.distributions.values() if not isinstance(d, CategoricalDistribution)]
    fewest = {"cmaes": 2, "qmc": 1}.get(name, 0)
    if len(numbers) < fewest:
        rule = f"hydra.sweeper.sampler={name} must have {fewest} keys with an interval or a range"
        raise ConfigError([f"{rule}, got {len(numbers)}: take tpe"])


def _describe_difference(path: Path, earlier: dict[str, Any], now: dict[str, Any]) -> str:
    keys = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    details = "; ".join(f"{key} was {earlier.get(key, 'not varied')}, is {now.get(key, 'not varied')}" for key in keys)
    return f"a search that resumes must vary what it has varied ({path}): {details}"
