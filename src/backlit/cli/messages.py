"""Error messages for somebody who typed a command: one line, with what to type instead."""

import re
import sys
from collections.abc import Sequence

from hydra.errors import MissingConfigException
from yaml import MarkedYAMLError

from backlit.cli.known_keys import MOST_LISTED, KnownKeys, groups_in, option_names
from backlit.config.conf import CONFIG_DIR
from backlit.config.hints import nearest
from backlit.errors import ConfigError
from backlit.text import printable, shell_word

_SEARCH = "this is for a search: add sweep=optuna; for a grid of values: -m key=1,2,3"
# Launchers that cannot keep what a sweep promises: each job by itself, resumed, with a record that repeats it.
OTHER_LAUNCHER = (
    "backlit has its own: type hydra.launcher.n_jobs=2 for this machine, hydra/launcher=ray or slurm for a cluster"
)
# Options that backlit had once, or that others call so, and what does their work.
_REPLACED = {
    **{f"hydra/launcher={name}": OTHER_LAUNCHER for name in ("joblib", "submitit_slurm", "submitit_local")},
    "trainer=ddp_spawn": "this option is gone; type trainer=ddp, or trainer=ddp_cpu without a GPU",
    "logger=many": "this option is gone; type logger=tensorboard",
    "trainer=cuda": "type trainer=gpu",
}


def print_errors(error: Exception, config_name: str = "train", *, is_recorded: bool = True) -> int:
    """Print on stderr what is wrong, one line a problem, and return exit code 2.

    Args:
        error: What was raised.
        config_name: The config at the top.
        is_recorded: Whether the config may be a stranger's, whose classes are not imported to name their arguments.
    """
    if isinstance(error, ConfigError):
        lines = error.problems
    else:
        lines = explain(error, config_name, is_recorded=is_recorded).splitlines()
    for line in lines:
        print(f"error: {printable(line)}", file=sys.stderr)
    return 2


def explain(error: BaseException, config_name: str, *, is_recorded: bool = True) -> str:
    """Return what an error means for somebody who typed a command."""
    text = str(error).strip()
    if isinstance(error, ConfigError):
        return text
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark) is not None:
        return f"{mark.name}, line {mark.line + 1}: {error.problem}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        return _explain_missing_option(error.missing_cfg_file, error.options or [])
    if not text and error.__cause__ is not None:
        return explain(error.__cause__, config_name, is_recorded=is_recorded)
    if match := re.search(r"(?s)Ambiguous value for argument '(.+)'\s+1\. ", text):
        if "=interval(" in match[1] or "=tag(" in match[1]:
            return f"{match[1]}: {_SEARCH}"
        return _explain_several_values(match[1])
    if match := re.search(r"(?s)Sweep parameters '(.+)' requires --multirun", text):
        searched = "=interval(" in match[1] or "=tag(" in match[1]
        return f"{match[1]}: {_SEARCH}" if searched else f"{match[1]} has several values: for a sweep add -m"
    if "BasicSweeper does not support" in text:
        return f"interval(...): {_SEARCH}"
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"+{match[1]}: the key exists; type it without +: {_typed_as(match[1], match[1])}"
    if match := re.search(r"Could not delete (?:from config\. )?'([^']+)'", text):
        keys = KnownKeys(config_name, is_recorded=is_recorded)
        return f"~{match[1]}: there is no {match[1]} to remove{keys.hint(f'~{match[1]}')}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return explain_unknown_key(match[1], KnownKeys(config_name, is_recorded=is_recorded))
    if match := re.match(r"(?:Multiple values for |force-add of config groups is not supported: '\++)([\w/]+)", text):
        return _explain_second_choice(match[1])
    if "Config group override must be a string" in text:
        return _explain_option_of_another_type()
    if match := re.match(r"Error merging override (.*)", text):
        reason = str(error.__cause__ or "").strip().splitlines()
        return f"{match[1]}: {reason[0]}" if reason else f"{match[1]}: the value does not fit"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("object_type", "reference_type", "See https")))


def explain_unknown_key(key: str, keys: KnownKeys) -> str:
    """Return a line for a key that the config does not have: what to type instead, or what there is."""
    group, at, package = key.partition("@")
    if at and package.endswith(f".{group}"):  # the defaults of an option change another group
        rule = "a YAML file that overrides other groups must begin with '# @package _global_'"
        return f"{rule}; one of {package.partition('.')[0]} does not"
    what = "no such key" if "." in key else "no such key or group"
    if (meant := keys.meant_by(key)) == [key]:  # the last option that a sweep varies has it
        return f"{key}: {what} in some of the options that the sweep varies"
    if meant:
        typed = [_typed_as(key, one) for one in meant]
        several = f"one of {', '.join(typed)}" if len(typed) > 1 else typed[0]
        added = ", an argument of its class that the YAML leaves out" if meant[0].startswith("+") else ""
        return f"{key}: {what}; type {several}{added}"
    return f"{key}: {what}{keys.hint(key)}"


def _typed_as(key: str, meant: str) -> str:
    """Return the argument that has set `key`, with the key that was meant, as a word of a shell."""
    for argument in sys.argv[1:]:
        typed, separator, value = argument.partition("=")
        if separator and typed.lstrip("+~") == key:
            return shell_word(f"{meant}={value}")
    return f"{meant}=..."


def _explain_second_choice(group: str) -> str:
    if any(re.match(rf"\++{group}=", argument) for argument in sys.argv[1:]):
        return f"+{group}: the group exists; type it without +: {_typed_as(group, group)}"
    return f"{group} is chosen twice; in the defaults of a YAML file type 'override /{group}: ...'"


def _explain_several_values(argument: str) -> str:
    key, _, value = argument.partition("=")
    if key in groups_in():
        return f"{argument} names several options: for a sweep add -m; otherwise type one: {key}={value.split(',')[0]}"
    sweep = f"for a sweep add -m: -m {shell_word(argument)}"
    return f"{argument} has several values: {sweep}; for a list: {shell_word(f'{key}=[{value}]')}"


def _explain_missing_option(file: str, options: Sequence[str]) -> str:
    group, _, option = file.rpartition("/")
    if not group:
        owners = [f"{name}={option}" for name in groups_in() if option in option_names(name)]
        hint = f"; type {' or '.join(owners)}" if owners else f" in {CONFIG_DIR}"
        return f"--config-name={option}: no such config{hint}"
    wanted = f"{group}={option}"
    if wanted in _REPLACED:
        return f"{wanted}: {_REPLACED[wanted]}"
    known = sorted(options) or option_names(group)  # of a list of options Hydra names none
    name = re.sub(r"\.ya?ml$", "", option)
    close = name if name in known else nearest(name, known)
    # "experiment=mnist" begins the name of one option.
    beginning = [one for one in known if name and one.startswith(name)]
    close = close or (beginning[0] if len(beginning) == 1 else None)
    hint = f", did you mean {close}?" if close else ""
    if len(known) > MOST_LISTED:
        known = [*known[:MOST_LISTED], "..."]
    return f"{wanted}: no such option{hint}; there are: {', '.join(known) or 'none'}"


def _explain_option_of_another_type() -> str:
    for argument in sys.argv[1:]:
        group, _, value = argument.partition("=")
        if group in groups_in() and (value in ("", "null", "true", "false") or not value[0].isalpha()):
            return f"{argument}: {group} must be one of its options: {', '.join(option_names(group))}"
    return "a group must be one of its options: group=option"
