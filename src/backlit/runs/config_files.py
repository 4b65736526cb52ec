"""``.hydra/``: the config of a run, as Hydra would write it, each file whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from backlit.runs.files import atomic_write

# The names of Hydra's files: the task's config, Hydra's own, and the overrides of the task.
NAMES = ("config", "hydra", "overrides")


def write_config(run_dir: Path, parts: Mapping[str, DictConfig | ListConfig]) -> None:
    """Write parts of a run's config as ``.hydra/<name>.yaml``.

    Args:
        run_dir: The run directory.
        parts: Some of `NAMES`, with their content; interpolations stay as they are.

    Raises:
        OSError: If one cannot be written.
    """
    directory = run_dir / ".hydra"
    directory.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        with atomic_write(directory / f"{name}.yaml") as temporary:
            temporary.write_text(OmegaConf.to_yaml(part), encoding="utf-8")
