"""Which arguments of a recorded command are used again.

A run directory may come from a stranger: an argument that could run code is used only if it is typed again.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException

from backlit.errors import ConfigError
from backlit.runs.files import is_relative_name

# Of Hydra's own settings, those that a recorded command may have: places and numbers, and its own plugins.
_HYDRA_SETTINGS = re.compile(
    r"hydra\.((run|sweep)\.dir|mode|verbose|launcher\.(n_jobs|gpus_per_job)|sweeper\.(n_trials|n_jobs))"
)
_HYDRA_PLUGINS = ("hydra/launcher=backlit", "hydra/sweeper=basic", "hydra/sweeper=optuna")
_GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "experiment", "sweep", "debug")


def is_plain_override(override: str) -> bool:
    """Return whether an override names no more than an option of backlit, a number or a text.

    What its value makes of the config is checked once that is composed (`backlit.config.trust.untrusted_targets`). This
    is about what Hydra does before: it reads the files that groups name, resolves interpolations, and instantiates
    objects of its own.
    """
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    key, texts = parsed.key_or_group, list(_iter_texts(parsed.value()))
    if parsed.package is not None or not re.fullmatch(r"[\w./-]+", key):
        return False
    if any("${" in text or not text.isprintable() for text in texts):
        return False
    if key.startswith("hydra"):
        return bool(_HYDRA_SETTINGS.fullmatch(key)) or override in _HYDRA_PLUGINS
    if key == "task_name":
        return all(is_relative_name(text) for text in texts)
    # The option of a group is a file; it must be in a directory that Hydra searches.
    return not (key in _GROUPS or "/" in key) or all(is_relative_name(text) for text in texts)


def _iter_texts(value: Any) -> Iterator[str]:
    """Yield the keys and values of an override's value, as text."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from itertools.chain(_iter_texts(key), _iter_texts(child))
    elif isinstance(value, list):
        for child in value:
            yield from _iter_texts(child)
    elif isinstance(value, ChoiceSweep):
        yield from _iter_texts(value.list)
    elif isinstance(value, QuotedString):
        yield value.text
    elif value is not None:
        yield str(value)


def repeatable_arguments(recorded: list[str], given: list[str]) -> list[str]:
    """Return those of a recorded command's arguments that are used again.

    Args:
        recorded: The arguments that a run directory, maybe a stranger's, has recorded.
        given: Those that the user has typed now.

    Raises:
        ConfigError: If a recorded argument may run code and is not among the given ones.
    """
    flags, overrides = split_flags(recorded)
    values = dict(itertools.pairwise(flags))
    unsafe = [
        f"{flag} {values.get(flag, '')}".strip()
        for flag in flags
        if flag.startswith("-") and flag not in ("-m", "--multirun", *given)
    ]
    unsafe += [override for override in overrides if override not in given and not is_plain_override(override)]
    if unsafe:
        raise ConfigError([f"{unsafe[0]!r} is what this run was started with; if you trust it, give it again"])
    kept = [flag for flag in flags if flag in ("-m", "--multirun")]  # the others have been given again
    return [*kept, *(override for override in overrides if not override.lstrip("+").startswith("packages="))]


def merge_arguments(recorded: list[str], given: list[str]) -> list[str]:
    """Return recorded arguments, each replaced by the given one that sets the same key."""
    flags, overrides = split_flags(recorded)
    more_flags, more_overrides = split_flags(given)
    merged: dict[str, str] = {}
    for override in [*overrides, *more_overrides]:
        key = override.lstrip("+~").partition("=")[0]
        if override.startswith("~") and merged.get(key, "").startswith("+"):
            del merged[key]  # what was added is removed
        else:
            merged[key] = override
    return [*flags, *more_flags, *merged.values()]


def split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return flags with their values, and overrides."""
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    return [a for a in arguments if a not in overrides], overrides
