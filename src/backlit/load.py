"""A run as Python objects: its network with what it learned, its data, its config, its curves.

What a stranger's run directory holds is data: loading it runs no code but that of the packages that the reader names.
"""

import logging
import pkgutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import instantiate
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.optim import Optimizer

from backlit.run import ConfigError, latest_run, read_rows

log = logging.getLogger(__name__)

_KINDS: dict[str, type] = {"model": LightningModule, "data": LightningDataModule}
_PARTS = (LightningModule, LightningDataModule, Callback, Trainer, Logger, Optimizer)


@dataclass(frozen=True)
class LoadedRun:
    """What `load_run` returns.

    Args:
        directory: The run directory.
        checkpoint: The file that the network's weights come from.
        config: The whole config that the run was trained with.
        model: The LightningModule, in evaluation mode, on the CPU, in the dtype that it was trained in.
        datamodule: The LightningDataModule, not set up yet.
    """

    directory: Path
    checkpoint: Path
    config: DictConfig
    model: LightningModule
    datamodule: LightningDataModule

    @property
    def metrics(self) -> Any:
        """Return the curves: a pandas DataFrame where pandas is installed, else a list of dicts, one a record."""
        path = self.directory / "metrics.csv"
        try:
            import pandas
        except ImportError:
            return read_rows(path)
        return pandas.read_csv(path)


def load_run(
    run: str | Path = "latest", *, checkpoint: str | None = None, packages: Sequence[str] = (), outputs: str = "outputs"
) -> LoadedRun:
    """Load a run.

    Args:
        run: A run directory, a file in its ``checkpoints/``, or ``latest`` for the newest run with a checkpoint.
        checkpoint: ``best`` or ``last``; None for the best, or the last where there was no validation.
        packages: Packages beside backlit whose code the run's config may name: those of your own models and data.
        outputs: Where ``latest`` is looked for.

    Raises:
        ValueError: If there is no such run or checkpoint, or if it cannot be read, is of another program, or wants code
            that `packages` does not have.
    """
    directory, file = find_run(run, checkpoint, outputs)
    config = read_config(directory)
    model_node, data_node = (trusted(config, name, packages) for name in ("model", "data"))
    model = cast(LightningModule, instantiate(model_node, _convert_="all", optimizer=None, scheduler=None))
    state = read_checkpoint(file)["state_dict"]
    if problem := mismatch(model, state):
        raise ValueError(f"{file} must fit the run's config: {problem}")
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    # Not `to`: torchmetrics would convert its states, too, and measure something else in the last digits.
    if convert := {torch.float64: model.double, torch.float16: model.half, torch.bfloat16: model.bfloat16}.get(dtype):
        convert()
    model.load_state_dict(state)
    datamodule = cast(LightningDataModule, instantiate(data_node, _convert_="all"))
    return LoadedRun(directory, file, config, model.eval(), datamodule)


def load_named(cfg: DictConfig) -> LoadedRun:
    """Return the run that the keys ``run``, ``checkpoint`` and ``packages`` of a command's config name.

    Raises:
        ConfigError: If that cannot be.
    """
    check_named(cfg)
    try:
        return load_run(str(cfg.run), checkpoint=cfg.checkpoint, packages=list(cfg.packages))
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def check_named(cfg: DictConfig) -> None:
    """Raise `ConfigError` if these keys are not what they have to be."""
    if OmegaConf.is_missing(cfg, "run") or not isinstance(cfg.run, str) or not cfg.run:
        raise ConfigError(["run must be a run directory, a file in its checkpoints/, or 'latest': run=latest"])
    if not OmegaConf.is_list(cfg.packages):
        raise ConfigError([f"packages must be a list, got {cfg.packages}: packages=[{cfg.packages}]"])


def find_run(run: str | Path, checkpoint: str | None = None, outputs: str = "outputs") -> tuple[Path, Path]:
    """Return the directory of a run, and the checkpoint in it.

    Raises:
        ValueError: If there is none.
    """
    try:
        directory = latest_run(Path(outputs)) if run == "latest" else Path(run)
    except FileNotFoundError as error:
        raise ValueError(f"run=latest: {error}") from None
    file = None
    if directory.is_file():
        file = directory
        directory = directory.resolve().parent.parent
        if checkpoint is not None:
            raise ValueError(f"checkpoint must be null when run is a file, got {checkpoint} and {run}")
    if not (directory / ".hydra" / "config.yaml").is_file():
        what = "a file in the checkpoints/ of a run directory" if file else "a run directory"
        raise ValueError(f"run must be {what}, got {run}, which has no .hydra/config.yaml")
    if file is not None:
        return directory, file
    checkpoints = directory / "checkpoints"
    names = [checkpoint] if checkpoint else ["best", "last"]
    found = [path for name in names if (path := checkpoints / f"{name}.ckpt").is_file()]
    if not found:
        there = ", ".join(sorted(path.stem for path in checkpoints.glob("*.ckpt"))) or "none"
        raise ValueError(f"checkpoint must be one that {directory} has ({there}), got {' or '.join(names)}")
    return directory, found[0]


def read_config(directory: Path) -> DictConfig:
    """Return the config that a run was trained with.

    Raises:
        ValueError: If it cannot be read.
    """
    path = directory / ".hydra" / "config.yaml"
    try:
        config = OmegaConf.load(path)
    except Exception as error:  # PyYAML and omegaconf have many
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} must be a run's config, got: {reason}") from None
    if not isinstance(config, DictConfig) or not {"model", "data", "seed"} <= set(config):
        raise ValueError(f"{path} must be a run's config with model, data and seed, got something else")
    return config


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return what a checkpoint holds: plain data.

    It is a zip archive with a CRC-32 of each part, which `torch.load` does not look at.

    Raises:
        ValueError: If it is damaged, or no checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        content = None if damaged else torch.load(path, map_location=map_location, weights_only=True)
    except Exception:  # whatever a file that is no checkpoint makes zipfile and torch raise
        content, damaged = None, "its end"
    if damaged:
        raise ValueError(f"{path} is damaged, or no checkpoint that torch.load(weights_only=True) reads")
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise ValueError(f"{path} must be a checkpoint with a state_dict, but is another program's file")
    return content


def net_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's weights under the names that the network itself has (``fc1.weight``, …)."""
    net = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
    return net or dict(state)


def last_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint that a run goes on from: ``last.ckpt``, or the one before it if that is damaged.

    None if the run has not got so far.

    Raises:
        ValueError: If none of them can be read.
    """
    problems = []
    for name in ("last", "previous"):
        path = directory / "checkpoints" / f"{name}.ckpt"
        if not path.exists():
            continue
        try:
            read_checkpoint(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("%s; the run goes on from the one before it, %s", problems[0], path.name)
        return path
    if problems:
        raise ValueError(f"{problems[0]}, and there is none before it that can be read")
    return None


def mismatch(model: LightningModule, state: Mapping[str, Any]) -> str | None:
    """Return the first thing that keeps weights from being a model's, None if they are."""
    own = model.state_dict()
    for name, value in own.items():
        if name not in state:
            return f"the model has {name}, which the checkpoint does not have"
        if getattr(state[name], "shape", None) != value.shape:
            there = tuple(getattr(state[name], "shape", ()))
            return f"{name} has shape {tuple(value.shape)} in the model, {there} in the checkpoint"
    more = next((name for name in state if name not in own), None)
    return f"the checkpoint has {more}, which the model does not have" if more is not None else None


def trusted(config: DictConfig, name: str, packages: Sequence[str]) -> dict[str, Any]:
    """Return a node of a config that somebody else may have written, if nothing but what is allowed can come of it.

    Args:
        config: The whole config.
        name: ``model`` or ``data``.
        packages: Packages beside backlit that it may name; no other is imported.

    Raises:
        ValueError: If it names another one, or something that is no such class.
    """
    node = plain_node(config, name)
    if problem := next(not_trusted(node, name, packages), None):
        raise ValueError(problem)
    kind = _KINDS[name]
    cls = pkgutil.resolve_name(node["_target_"])
    if isinstance(cls, type) and not issubclass(cls, kind):
        raise ValueError(f"{name}._target_ must be a {kind.__name__}, got {node['_target_']}")
    return node


def plain_node(config: DictConfig, name: str) -> dict[str, Any]:
    """Return a node of a config as plain data, in which nothing is left to be resolved.

    Raises:
        ValueError: If that cannot be.
    """
    try:
        node = OmegaConf.to_container(config, resolve=True)[name]  # type: ignore[index,call-overload]
    except (OmegaConfBaseException, KeyError) as error:
        raise ValueError(f"{name} of the run's config cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(node, dict) or "_target_" not in node:
        raise ValueError(f"{name} must have a _target_ in the run's config, got {node!r}")
    if "${" in repr(node):
        raise ValueError(f"{name} of the run's config must have no interpolation within another one")
    return node


def not_trusted(node: Any, path: str, packages: Sequence[str]) -> Iterator[str]:
    """Yield a line for each thing that a plain config names and that must not be called unless its reader says so.

    Without that, what may be called are classes of backlit, lightning and torch that make a part of a run, and
    backlit's schedulers: none of them takes code, or opens a file that may hold some.

    Args:
        node: What Hydra would instantiate.
        path: Its place in the config.
        packages: Packages that the reader trusts; nothing of any other is imported.
    """
    if "${" in repr(node):  # Hydra would resolve what was escaped
        yield "the config of this run must have no interpolation within another one"
    for place, of_target in targets(node, path):
        target = of_target["_target_"]
        package = str(target).split(".")[0]
        if package in packages:
            continue
        if package not in ("backlit", "lightning", "torch"):
            yield f"{place} of this run wants {target}, not backlit's; if you trust that code: packages=[{package}]"
            continue
        try:
            found = pkgutil.resolve_name(str(target))
        except (ImportError, ValueError, AttributeError) as error:
            yield f"{place} of this run wants {target}, which cannot be imported: {error}"
            continue
        is_part = isinstance(found, type) and issubclass(found, _PARTS)
        if not is_part and getattr(found, "__module__", "") != "backlit.models.schedulers":
            yield f"{place} of this run wants {target}, which is no part of a run"


def targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node of a plain config that will be instantiated, with its place; in lists too."""
    if isinstance(node, list):
        for index, child in enumerate(node):
            yield from targets(child, f"{path}[{index}]")
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, child in node.items():
            yield from targets(child, f"{path}.{key}" if path else str(key))
