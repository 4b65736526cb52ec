"""What a search varies: from Hydra's grammar to Optuna's distributions, and from a trial's parameters to overrides."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from backlit.errors import ConfigError
from backlit.sweeps.ranking import SEED_KEYS

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# How `hydra.sweeper.params` names the key of an experiment that has the distribution.
_INTERPOLATION = re.compile(r"\$\{(?:oc\.select:)?(search\.\w+)\}")


@dataclass(frozen=True)
class SearchSpace:
    """What a search varies.

    Args:
        distributions: What each key is drawn from.
        fixed: The overrides that all trials have.
        repetitions: The overrides of each repetition of a trial, which differ in their seeds.
    """

    distributions: "dict[str, BaseDistribution]"
    fixed: list[str]
    repetitions: list[list[str]]

    def trial_overrides(self, parameters: Mapping[str, Any]) -> list[list[str]]:
        """Return the overrides of each job of a trial.

        Args:
            parameters: The value of each key.
        """
        drawn = [f"{key}={parameters[key]}" for key in self.distributions]
        return [[*self.fixed, *drawn, *repetition] for repetition in self.repetitions]

    def corners(self) -> list[dict[str, Any]]:
        """Return as few sets of parameters as have both ends of every interval, and every choice."""
        values = {key: _ends(distribution) for key, distribution in self.distributions.items()}
        most = max(map(len, values.values()))
        return [{key: found[index % len(found)] for key, found in values.items()} for index in range(most)]


def _ends(distribution: Any) -> list[Any]:
    from optuna.distributions import CategoricalDistribution

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return list(dict.fromkeys([distribution.low, distribution.high]))


def read_space(params: DictConfig, arguments: Sequence[str], config_loader: ConfigLoader) -> SearchSpace:
    """Return what a search varies.

    Args:
        params: The config's ``hydra.sweeper.params``: key to a distribution in Hydra's grammar; None is left out.
        arguments: The overrides that were typed; a key that is typed is not drawn from the config's distribution.
        config_loader: Knows the options of a group, for ``optimizer=glob(*)``.

    Raises:
        ConfigError: If a distribution cannot be drawn from, or if nothing is varied.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    texts: Any = OmegaConf.to_container(params, resolve=False)
    used = {match[1]: key for key, text in texts.items() if (match := _INTERPOLATION.fullmatch(str(text)))}
    typed = parser.parse_overrides(list(arguments))
    for override in typed:  # search.lr=interval(...) stands for the key that uses it
        key = override.key_or_group
        if override.is_sweep_override() and key.startswith("search."):
            if key not in used:
                known = f"there are {', '.join(sorted(used))}" if used else "hydra.sweeper.params uses none"
                raise ConfigError([f"{key} must be used by the search, but is not; {known}"])
            override.key_or_group = used[key]
    varied = {override.get_key_element() for override in typed}
    own = [f"{key}={params[key]}" for key in texts if key not in varied and params[key] is not None]
    found: dict[str, Override] = {o.get_key_element(): o for o in [*parser.parse_overrides(own), *typed]}
    distributions: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    repeated: list[list[str]] = []
    problems: list[str] = []
    for key, override in found.items():
        try:
            if not override.is_sweep_override():
                fixed.append(str(override.input_line))
            elif key in SEED_KEYS:
                if not override.is_discrete_sweep():
                    raise ValueError("must be a list of seeds, as in seed=0,1,2, with which each trial is repeated")
                repeated.append([f"{key}={value}" for value in override.sweep_string_iterator()])
            else:
                distributions[key] = _distribution(override)
        except ValueError as error:
            problems.append(f"{key} {error}, got {str(override.input_line).partition('=')[2]}")
    if problems:
        raise ConfigError(problems)
    if not distributions:
        raise ConfigError(["a search must vary something, got no list, range or interval: optimizer.lr=interval(...)"])
    return SearchSpace(distributions, fixed, [list(each) for each in itertools.product(*repeated)])


def _distribution(override: Override) -> "BaseDistribution":
    """Return what a key is drawn from.

    Raises:
        ValueError: With the rule, if there is no such distribution.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high, is_log = value.start, value.end, "log" in value.tags
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError("must be an interval from a number to one that is not smaller")
        if is_log and low <= 0:
            raise ValueError("must be > 0 at both ends of an interval with tag log")
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=is_log)
        return FloatDistribution(low, high, log=is_log)
    if isinstance(value, RangeSweep):
        values = sorted(map(float, override.sweep_string_iterator()))
        if not values or value.tags:
            raise ValueError("must be a range with a value, and without tags")
        if isinstance(value.start, int) and isinstance(value.step, int):
            return IntDistribution(int(values[0]), int(values[-1]), step=abs(value.step))
        return FloatDistribution(values[0], values[-1], step=abs(float(value.step)))
    choices = list(dict.fromkeys(map(_unquote_list, override.sweep_string_iterator())))
    if not choices:
        raise ValueError("must have a value")
    return CategoricalDistribution(choices)


def _unquote_list(choice: str) -> str:
    """Return a choice as an override's value; a quoted list is a list, as in Hydra's own sweeper for Optuna."""
    return re.sub(r"\\(.)", r"\1", choice) if choice.startswith((r"\[", r"\{")) else choice
