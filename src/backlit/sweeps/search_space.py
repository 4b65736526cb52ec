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


def read_space(config: DictConfig, arguments: Sequence[str], config_loader: ConfigLoader) -> SearchSpace:
    """Return what a search varies.

    That is what is typed; and what the config's ``search`` says by whole keys (``model.width: choice(4, 8)``) or, if
    that has none, ``hydra.sweeper.params``, of which keys that the config lacks are left out. What is typed for a key
    replaces the config's distribution.

    Args:
        config: The config of the search, with Hydra's part.
        arguments: The overrides that were typed.
        config_loader: Knows the options of a group, for ``optimizer=glob(*)``.

    Raises:
        ConfigError: If a distribution cannot be drawn from, or if nothing is varied.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    params, texts = _config_distributions(config)
    used = {match[1]: key for key, text in texts.items() if (match := _INTERPOLATION.fullmatch(text))}
    typed = parser.parse_overrides(list(arguments))
    for override in typed:  # search.lr=interval(...) stands for the key that uses it
        key = override.key_or_group
        if override.is_sweep_override() and key.startswith("search."):
            if key not in used:
                known = f"there are {', '.join(sorted(used))}" if used else "hydra.sweeper.params uses none"
                raise ConfigError([f"{key} must be used by the search, but is not; {known}"])
            override.key_or_group = used[key]
    varied = {override.get_key_element() for override in typed}
    own = [f"{key}={value}" for key, value in params.items() if key not in varied]
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
                is_int = type(OmegaConf.select(config, override.key_or_group)) is int
                distributions[key] = _distribution(override, is_int=is_int)
        except ValueError as error:
            problems.append(f"{key} {error}, got {str(override.input_line).partition('=')[2]}")
    if problems:
        raise ConfigError(problems)
    if not distributions:
        raise ConfigError(["a search must vary something, got no list, range or interval: optimizer.lr=interval(...)"])
    return SearchSpace(distributions, fixed, [list(each) for each in itertools.product(*repeated)])


def _config_distributions(config: DictConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Return the distributions that a config has, by key, and their texts as they are written."""
    search = {str(key): value for key, value in config.search.items() if value is not None}
    whole = {key: str(value) for key, value in search.items() if "." in key}
    if whole:
        return whole, {}
    params = config.hydra.sweeper.params
    texts: Any = OmegaConf.to_container(params, resolve=False)
    known = [key for key in texts if params[key] is not None and _has_key(config, key)]
    return {key: str(params[key]) for key in known}, {key: str(texts[key]) for key in known}


def _has_key(config: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return isinstance(node, DictConfig) and name in node


def _distribution(override: Override, *, is_int: bool) -> "BaseDistribution":
    """Return what a key is drawn from.

    Args:
        override: The key, and what it is drawn from in Hydra's grammar.
        is_int: Whether the config has a whole number there: then an interval with whole ends, which Hydra reads as
            floats, has whole numbers.

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
        if isinstance(low, int) or (is_int and float(low).is_integer() and float(high).is_integer()):
            return IntDistribution(int(low), int(high), log=is_log)
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
