"""The keys at the top of each command's config: their types and ranges, and what reads a key that is not among them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backlit.arguments import Count, PositiveInt, Seed, Text, find_problem
from backlit.config.hints import nearest, same_name_keys
from backlit.errors import ConfigError
from backlit.text import flatten

TRAIN: dict[str, Any] = {
    "task_name": str,  # what names are allowed: `check.py`
    "tags": list[str | int | float | bool],
    "seed": Seed,
    "train": bool,
    "test": bool,
    "ckpt_path": Text | None,
    "init_from": Text | None,
    "lr_find": bool,
    "scale_batch_size": bool,
    "packages": list[Text],
    "optimized_metric": Text,
    "optimized_mode": Literal["min", "max"] | None,
    "search": dict[str, Text | None],
    "zoom": Count,
    "lean_loop": bool,
    "process_timeout": Annotated[float, Gt(0), Le(1e9)],
    "output_dir": Text | None,
}
EVALUATE: dict[str, Any] = {"checkpoint": Text | None, "resamples": Count, "seed": Seed, "output_dir": Text | None}
PREDICT: dict[str, Any] = {
    "checkpoint": Text | None,
    "output": str | int | float | None,
    "frame": Literal["auto", "mnist", "none"],
    "invert": bool | Literal["auto"],
    "batch_size": PositiveInt,
    "device": Text,
}
EXPORT: dict[str, Any] = {
    "checkpoint": Text | None,
    "format": Literal["state_dict", "torch_export", "onnx"] | None,
    "output": str | int | float | None,
}
# What the commands about a run check when they look for it, and the groups of evaluate.
_READ_LATER = ("run", "packages", "input", "data", "trainer", "hydra")


def check_command(cfg: DictConfig, table: Mapping[str, Any]) -> None:
    """Check the keys at the top of the config of a command about a run.

    Args:
        cfg: The whole config.
        table: What each key must be.

    Raises:
        ConfigError: With a line for each that is not, and for each that nothing reads.
    """
    try:
        plain = {key: cfg[key] for key in table if key in cfg}
    except OmegaConfBaseException as error:
        raise ConfigError([f"{error.full_key}: {str(error).splitlines()[0]}"]) from None
    plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in plain.items()}
    if problems := [*check_unread(cfg, [*table, *_READ_LATER]), *check_top_level(plain, table)]:
        raise ConfigError(problems)


def check_top_level(plain: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each key of a command's config that is missing, or whose value is out of its range.

    Args:
        plain: The config as plain data.
        table: What each key must be.
    """
    for key, hint in table.items():
        if key not in plain:
            yield f"{key} is missing"
        elif problem := find_problem(key, plain[key], hint, is_plain=True):
            yield problem


def check_unread(cfg: DictConfig, known: Iterable[str]) -> Iterator[str]:
    """Yield a line for each key at the top that nothing reads: neither backlit nor an interpolation ``${key}``."""
    known = list(known)
    others = [str(key) for key in cfg if key not in known]
    text = OmegaConf.to_yaml(cfg, resolve=False) if others else ""
    for key in others:
        if not re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", text):
            yield f"{key}: nothing reads this key{_nearest(key, cfg, known)}"


def _nearest(key: str, cfg: DictConfig, known: Iterable[str]) -> str:
    """Return the question whether a key is meant that ends like this one: ``optimizer.lr`` for ``lr``."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    keys = [*known, *(path for path in flatten(plain, ".") if path.split(".")[0] != key)]
    close = same_name_keys(key, keys) or [one for one in [nearest(key, keys)] if one]
    return f", did you mean {' or '.join(close)}?" if close else ""
