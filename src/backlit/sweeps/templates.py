"""The jobs' configs as Hydra composes them; jobs that differ in values alone share what comes before these are set."""

import contextlib
import pickle
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# A sweep over more combinations of options than these is rare: its other jobs are composed one by one.
_MOST_TEMPLATES = 64


Learned = tuple[dict[tuple[str, ...], bytes], dict[str, bool]]


class Templates:
    """Composes the configs of jobs.

    Hydra reads and merges all YAML files, 0.1 s, and then sets the values that were typed. Here it does so once for all
    jobs with the same options, and a copy gets the values of a job, 3 ms.

    Args:
        sweep_config: The config of the sweep as a whole, with Hydra's part.
        loader: Hydra's.
    """

    def __init__(self, sweep_config: DictConfig, loader: ConfigLoader) -> None:
        self._sweep_config, self._loader = sweep_config, loader
        # Overrides to the pickled config: a copy by pickle takes a sixth of a deep copy's time.
        self._pickled: dict[tuple[str, ...], bytes] = {}
        self._is_group: dict[str, bool] = {}

    @property
    def learned(self) -> Learned:
        """Return what a child process has found out, for its parent and so for the parent's other children."""
        return self._pickled, self._is_group

    def learn(self, learned: Learned) -> None:
        """Take over what a child process has found out."""
        self._pickled, self._is_group = learned

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return what Hydra's ``load_sweep_config`` returns for the overrides of a job, which the caller may change.

        Raises:
            HydraException: As Hydra does.
        """
        with contextlib.suppress(HydraException, OmegaConfBaseException):  # below with Hydra's own message
            if (config := self._fill_template(overrides)) is not None:
                return config
        return self._loader.load_sweep_config(self._sweep_config, list(overrides))

    def _fill_template(self, overrides: Sequence[str]) -> DictConfig | None:
        """Return the config by a template; None if the order of the overrides may matter, or for too many templates."""
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values: list[Override] = []
        others: list[Override] = []
        for override in parsed:
            (values if self._is_value(override) else others).append(override)
        if any(self._may_depend(other, values) for other in others):
            return None
        names = tuple(str(other.input_line) for other in others)
        if names not in self._pickled:
            if len(self._pickled) == _MOST_TEMPLATES:
                return None
            self._pickled[names] = pickle.dumps(self._loader.load_sweep_config(self._sweep_config, list(names)))
        config: DictConfig = pickle.loads(self._pickled[names])
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        config.hydra.overrides.task = [str(o.input_line) for o in parsed if not o.is_hydra_override()]
        config.hydra.job.override_dirname = _directory_name(config, parsed)
        return config

    def _is_value(self, override: Override) -> bool:
        """Return whether an override sets a key that exists, of the task, to a value."""
        if override.is_add() or override.is_force_add() or override.is_delete() or override.is_sweep_override():
            return False
        key = override.key_or_group
        is_hydra = key.partition(".")[0] == "hydra" or override.is_hydra_override()
        return not (is_hydra or override.package is not None or self._names_group(key))

    def _names_group(self, key: str) -> bool:
        if key not in self._is_group:
            hydra: Any = self._sweep_config.hydra
            overrides = list(hydra.overrides.hydra)
            found = self._loader.get_group_options(key, None, hydra.job.config_name, overrides)
            self._is_group[key] = bool(found)
        return self._is_group[key]

    def _may_depend(self, other: Override, values: Sequence[Override]) -> bool:
        """Return whether an override that is no value may come to something else after others have set values."""
        key = other.key_or_group
        if other.is_delete() and other.value() is not None:
            return True
        if self._names_group(key) and not isinstance(other.value(), dict):
            return False  # options come before all values
        return any(
            key == value.key_or_group
            or key.startswith(f"{value.key_or_group}.")
            or value.key_or_group.startswith(f"{key}.")
            for value in values
        )


def _directory_name(config: DictConfig, overrides: Sequence[Override]) -> str:
    """Return what Hydra calls ``override_dirname``."""
    settings: Any = config.hydra.job.config.override_dirname
    lines = sorted(
        str(override.input_line)
        for override in overrides
        if not override.is_hydra_override() and override.key_or_group not in settings.exclude_keys
    )
    return str(settings.item_sep).join(lines).replace("=", settings.kv_sep)
