"""Which arguments of a recorded command are used again.

A run directory may come from a stranger: an argument that could run code, or that names a place outside of that
directory, is used only if it is typed again.
"""

import itertools
import re
import shlex
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from backlit.errors import ConfigError
from backlit.runs.commands import split_flags
from backlit.runs.files import is_relative_name
from backlit.runs.places import iter_texts, outside_override, override_to_type

# Of Hydra's own settings, those that a recorded command may have: places and numbers, and its own plugins.
_HYDRA_SETTINGS = re.compile(
    r"hydra\.((run|sweep)\.dir|mode|verbose|sweeper\.(n_trials|timeout|pruner|seed)"
    r"|launcher\.(n_jobs|gpus_per_job|cpus_per_job|wait))"
)
# Those that it may have if their value is a plain name.
_HYDRA_NAMES = re.compile(
    r"hydra\.launcher\.((engine|partition|time|gres|account|qos)=[\w.,:-]+|ray_address=(auto|null))"
)
_HYDRA_PLUGINS = (
    *(f"hydra/launcher={name}" for name in ("backlit", "slurm", "ray")),
    *(f"hydra/sweeper={name}" for name in ("basic", "grid", "search")),
    # Not cmaes, which unpickles its state from the journal.
    *(f"hydra.sweeper.sampler={name}" for name in ("tpe", "gp", "qmc", "random", "grid")),
)
# What makes a command a sweep; backlit records none of these for a run or a job.
_MAKES_SWEEP = re.compile(r"(-m|--multirun)$|[+~]*(sweep|hydra/sweeper|hydra\.mode)=(?!RUN$)")
# More than any command has; Hydra's parser takes a second for a text of a thousand brackets.
_MOST_ARGUMENTS, _MOST_CHARACTERS, _MOST_LEVELS = 10_000, 10_000, 50
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
    key, found = parsed.key_or_group, list(iter_texts(parsed.value(), parsed.key_or_group))
    if parsed.package is not None or not re.fullmatch(r"[\w./-]+", key):
        return False
    if any("${" in text or not text.isprintable() for pair in found for text in pair):
        return False
    if key.startswith("hydra"):
        is_setting = _HYDRA_SETTINGS.fullmatch(key) or _HYDRA_NAMES.fullmatch(override)
        return bool(is_setting) or override in _HYDRA_PLUGINS
    # A task is a directory below outputs/; the option of a group is a file in a directory that Hydra searches.
    is_name = key == "task_name" or key in _GROUPS or "/" in key
    return not is_name or all(is_relative_name(text) for _, text in found)


def repeatable_arguments(
    recorded: list[str],
    given: list[str],
    directory: Path | None = None,
    *,
    recorded_by: Path | None = None,
    of_sweep: bool = False,
) -> list[str]:
    """Return those of a recorded command's arguments that are used again.

    The recorded directory of the run or sweep is not among them: it is where it is.

    Args:
        recorded: The arguments that a run directory, maybe a stranger's, has recorded.
        given: Those that the user has typed now.
        directory: The directory that is resumed, in which recorded arguments may name files; None for none.
        recorded_by: The directory of the run or sweep, for messages; None for `directory`.
        of_sweep: Whether they are those of a sweep; a run's make no sweep.

    Raises:
        ConfigError: If a recorded argument may run code, or names a place elsewhere, and is not among the given ones.
    """
    _check_size(recorded)
    flags, overrides = split_flags(recorded)
    overrides = [override for override in overrides if not override.startswith(("hydra.run.dir=", "hydra.sweep.dir="))]
    values = dict(itertools.pairwise(flags))
    started = "is what this run was started with"
    problems = []
    for flag in flags:
        if flag.startswith("-") and flag not in ("-m", "--multirun", *given):
            argument = f"{flag} {values.get(flag, '')}".strip()
            problems.append(f"{argument!r} {started}; if you trust it, give it again")
    replaced = {_key(override) for override in split_flags(given)[1]}
    for argument in recorded:
        if not of_sweep and argument not in given and _MAKES_SWEEP.match(argument):
            problems.append(f"{argument!r} {started}, and makes a sweep; if you want one, give it again")
    for override in (override for override in overrides if override not in given):
        if not is_plain_override(override):
            problems.append(f"{override!r} {started}; if you trust it, give it again")
        elif _key(override) not in replaced and outside_override(override, directory):
            rule = "and names a place outside of its directory; to use it, type it again"
            source = recorded_by or directory
            typed = override if source is None else override_to_type(override, source)
            problems.append(f"{override!r} {started}, {rule}: {shlex.quote(typed)}")
    if problems:
        raise ConfigError(problems)
    kept = [flag for flag in flags if flag in ("-m", "--multirun")]  # the others have been given again
    return [*kept, *(override for override in overrides if not override.lstrip("+").startswith("packages="))]


def _check_size(recorded: list[str]) -> None:
    """Raise `ConfigError` if there are more or longer arguments than a command has."""
    for argument in recorded:
        deepest = max(itertools.accumulate((c in "[{(") - (c in "]})") for c in argument), default=0)
        if len(argument) > _MOST_CHARACTERS or deepest > _MOST_LEVELS:
            rule = f"at most {_MOST_CHARACTERS:,} characters and {_MOST_LEVELS} levels of brackets"
            raise ConfigError([f"a recorded argument must have {rule}, got {argument[:40]!r}..."])
    if len(recorded) > _MOST_ARGUMENTS:
        raise ConfigError([f"there must be at most {_MOST_ARGUMENTS:,} recorded arguments, got {len(recorded):,}"])


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def merge_arguments(recorded: list[str], given: list[str]) -> list[str]:
    """Return recorded arguments, each replaced by the given one that sets the same key."""
    flags, overrides = split_flags(recorded)
    more_flags, more_overrides = split_flags(given)
    merged: dict[str, str] = {}
    for override in [*overrides, *more_overrides]:
        key = _key(override)
        if override.startswith("~") and merged.get(key, "").startswith("+"):
            del merged[key]  # what was added is removed
        else:
            merged[key] = override
    return [*flags, *more_flags, *merged.values()]
