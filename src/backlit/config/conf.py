"""Where the YAML files are, and the values that they compute: ``${backlit.job_name:...}`` and the like.

Importing this registers the resolvers, so that whoever composes a config from `CONFIG_DIR` has them.
"""

import re
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from backlit.text import shorten_numbers

# In a wheel the configs lie in the package, in a checkout at its top.
_IN_PACKAGE = Path(__file__).parents[1] / "conf"
CONFIG_DIR = _IN_PACKAGE if _IN_PACKAGE.is_dir() else Path(__file__).parents[3] / "conf"


def job_name(number: int | str, overrides: str) -> str:
    """Return the name of a job's directory: its number, maybe with zeros, and the overrides particular to it.

    It has no character that means something to Hydra, so that it can be typed as a value: ``run=...``.
    """
    overrides = re.sub(r"(^|,)\++", r"\1", overrides)  # Hydra's plus of a key that is added
    name = re.sub(r"\[(.*?)\]", lambda match: match[1].replace(",", "-"), shorten_numbers(overrides))
    name = re.sub(r"[^\w.+-]+", "-", name.replace("=", "_").replace(",", "+")).strip("-+")
    return f"{number}_{name[:120]}" if name else str(number)


def run_name(output_dir: str | None) -> str | None:
    """Return the name of a run directory; None if there is none yet."""
    return Path(output_dir).name or None if output_dir else None


def sweep_name(output_dir: str | None) -> str | None:
    """Return the name of the sweep directory that a run directory is in; None if it is in none."""
    parent = Path(output_dir or "").absolute().parent
    return parent.name if output_dir and (parent / "sweep.json").is_file() else None


def values_around(value: float) -> str:
    """Return seven values around `value`, two a decade, as Hydra's override grammar lists them."""
    return ",".join(f"{value * 10 ** (half_decades / 2):.2g}" for half_decades in range(-3, 4))


def search_direction(metric: str, mode: str | None) -> str:
    """Return the direction in which Optuna searches: that of `mode`, or, where it is None, of the metric's usual name.

    Raises:
        ValueError: If `mode` is None and the name does not say it: a search begins before any module is built.
    """
    from backlit.models.metric_mode import usual_mode  # imports torch, which only a search needs so early

    direction = mode or usual_mode(metric)
    if direction is None:
        raise ValueError(f"optimized_mode must be min or max for a search by {metric}, got null")
    return f"{direction}imize"


def offer_run_data(node: dict[str, Any], precision: str) -> None:
    """Make a run's own data the option ``data=of_run``, and its precision the default, for conf/evaluate.yaml.

    Hydra keeps one store for the whole process, so that the last run that was offered is the one that counts.
    """
    ConfigStore.instance().store(group="data", name="of_run", node=node)
    OmegaConf.register_new_resolver("backlit.precision", lambda: precision, replace=True)


OmegaConf.register_new_resolver("backlit.job_name", job_name, replace=True)
OmegaConf.register_new_resolver("backlit.run_name", run_name, replace=True)
OmegaConf.register_new_resolver("backlit.sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("backlit.around", values_around, replace=True)
OmegaConf.register_new_resolver("backlit.direction", search_direction, replace=True)
offer_run_data({}, "32-true")
