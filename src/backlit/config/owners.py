"""Which option of a config has set a key of another group: an experiment, usually."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from backlit.text import flatten


def key_owners(cfg: DictConfig) -> dict[str, str]:
    """Return the options, ``experiment/points`` for instance, that set keys of any group, by key with dots.

    Keys that are typed are left out.

    Args:
        cfg: The whole config; without Hydra's part the result is empty.
    """
    if "hydra" not in cfg:
        return {}
    directories = [Path(source.path) for source in cfg.hydra.runtime.config_sources if source.schema == "file"]
    owners: dict[str, str] = {}
    for group, option in cfg.hydra.runtime.choices.items():
        paths = [directory / str(group) / f"{option}.yaml" for directory in directories]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None and path.read_text(encoding="utf-8").startswith("# @package _global_"):
            content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
            owners |= dict.fromkeys(flatten(content, "."), f"{group}/{option}")
    typed: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    typed_keys = {str(override).lstrip("+").partition("=")[0] for override in typed}
    return {key: option for key, option in owners.items() if key not in typed_keys}
