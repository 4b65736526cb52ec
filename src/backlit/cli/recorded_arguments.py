"""Which arguments of a recorded command are used again.

A run directory may come from a stranger: an argument that could run code is used only if it is typed again.
"""

import itertools
import re

from backlit.errors import ConfigError
from backlit.runs.commands import split_flags

# Of Hydra's own settings, those that a recorded command may have: places and numbers.
_HYDRA_SETTINGS = re.compile(
    r"hydra\.((run|sweep)\.dir|mode|verbose|launcher\.(n_jobs|gpus_per_job)|sweeper\.(n_trials|n_jobs))=[^{}\[\]]*"
    r"|hydra/(launcher=backlit|sweeper=(basic|optuna))"
)
_GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "experiment", "sweep", "debug")


def is_plain_override(override: str) -> bool:
    """Return whether an override names no more than an option of backlit, a number or a text.

    What its value makes of the config is checked once that is composed (`backlit.config.trust.untrusted_targets`). This
    is about what Hydra does before: it reads the files that groups name, resolves interpolations, and instantiates
    objects of its own.
    """
    key, _, value = override.partition("=")
    key = key.lstrip("+~")
    if not re.fullmatch(r"[\w./-]+", key) or re.search(r"[$\\\n\r]", value):  # no @package, interpolation, escape
        return False
    if key == "task_name":  # a directory
        return bool(re.fullmatch(r"\w[\w.-]*", value))
    if key.startswith("hydra"):
        return bool(_HYDRA_SETTINGS.fullmatch(override))
    return not (key in _GROUPS or "/" in key) or bool(re.fullmatch(r"[\w, \[\]-]*", value))


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
