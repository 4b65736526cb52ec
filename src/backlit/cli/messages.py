"""Error messages for somebody who typed a command: one line, with the nearest key that exists."""

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf

from backlit.config.conf import CONFIG_DIR
from backlit.errors import ConfigError
from backlit.text import printable

# Options of Hydra's groups that come with an extra.
_EXTRAS = {"joblib": "joblib", "optuna": "optuna", "ray": "ray", "submitit_slurm": "submitit"}
# Options that backlit had once, and what does their work.
_REPLACED = {"trainer=ddp_spawn": "trainer=ddp, or trainer=ddp_cpu without a GPU", "logger=many": "logger=tensorboard"}


def print_errors(error: Exception, config_name: str = "train") -> int:
    """Print on stderr what is wrong, one line a problem, and return exit code 2."""
    lines = error.problems if isinstance(error, ConfigError) else explain(error, config_name).splitlines()
    for line in lines:
        print(f"error: {printable(line)}", file=sys.stderr)
    return 2


def explain(error: Exception, config_name: str) -> str:
    """Return what an error means for somebody who typed a command."""
    text = str(error).strip()
    if isinstance(error, ConfigError):
        return text
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        return _explain_missing_option(error.missing_cfg_file, error.options or [])
    if match := re.search(r"Could not override '([^']+)'", text):
        return _explain_unknown_key(match[1], config_name, is_group="No match in the defaults list" in text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("object_type", "reference_type", "See https")))


def _explain_missing_option(file: str, options: Sequence[str]) -> str:
    group, _, option = file.rpartition("/")
    if not group:
        return f"--config-name={option}: no such config in {CONFIG_DIR}"
    wanted = f"{group}={option}"
    if wanted in _REPLACED:
        return f"{wanted}: this option is gone; type {_REPLACED[wanted]}"
    is_extra = option in _EXTRAS and "hydra/" in group
    install = f"; pip install 'backlit[{_EXTRAS[option]}]'" if is_extra else ""
    known = sorted(options)
    return f"{wanted}: no such option{_nearest(option, known)}{install}; there are: {', '.join(known)}"


def _explain_unknown_key(key: str, config_name: str, *, is_group: bool) -> str:
    keys = _known_keys(config_name)
    if is_group or "." not in key:
        groups = sorted(path.name for path in CONFIG_DIR.iterdir() if path.is_dir())
        keys = list(dict.fromkeys([*(known for known in keys if "." not in known), *groups]))
        return f"{key}: no such key or group{_nearest(key, keys)}; there are: {', '.join(keys)}"
    return f"{key}: no such key{_nearest(key, keys)}"


def _known_keys(config_name: str) -> list[str]:
    """Return all keys of the options that the command line chooses, with their groups."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        choices = [argument for argument in sys.argv[1:] if re.fullmatch(r"\w+=\w+", argument)]
        for overrides in (choices, []):
            try:
                return list(_iter_keys(hydra.compose(config_name, overrides), ""))
            except HydraException:
                continue
    return []


def _iter_keys(node: Any, prefix: str) -> Iterator[str]:
    for key in node:
        name = f"{prefix}{key}"
        yield name
        child = None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) else node[key]
        if OmegaConf.is_dict(child):
            yield from _iter_keys(child, f"{name}.")


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]}?" if close else ""
