"""Objects from the nodes of a config, with every reason why one cannot be built."""

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, LightningDataModule, LightningModule
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from backlit.arguments import annotations_of, find_problem
from backlit.config.known_arguments import FOLLOWED
from backlit.config.loggers import check_available, resumed_arguments
from backlit.config.modes import choose_mode
from backlit.data import UserFilesDataModule
from backlit.models.schedulers import torch_schedule
from backlit.text import first_line

Part = TypeVar("Part")


@dataclass
class Components:
    """What the nodes of a config describe; None for one that could not be built.

    Args:
        datamodule: The data.
        model: The network with its loss and metrics.
        callbacks: Those of the group ``callbacks``, in their order.
        loggers: Those of the group ``logger`` by their names, in their order.
        last_checkpoint: The callback that writes ``last.ckpt``.
        make_trainer: Makes Lightning's Trainer from its remaining arguments.
    """

    datamodule: LightningDataModule | None = None
    model: LightningModule | None = None
    callbacks: list[Callback] = field(default_factory=list)
    loggers: dict[str, Logger] = field(default_factory=dict)
    last_checkpoint: Any = None
    make_trainer: partial[Any] | None = None


def build_components(
    cfg: DictConfig, problems: list[str], *, last_path: Path, steps_done: int | None, logger_runs: Mapping[str, str]
) -> Components:
    """Build what the nodes of a config describe, each once.

    Args:
        cfg: The whole config.
        problems: Gets a line for each constructor that rejects its arguments: it knows best what it takes.
        last_path: The file of the last checkpoint.
        steps_done: Optimizer steps of the checkpoint that the run resumes from; None for a fresh run.
        logger_runs: What loggers call this run on their servers, as its record has it, by the names of the loggers.
    """

    def make(name: str, maker: Callable[[], Part]) -> Part | None:
        node = OmegaConf.select(cfg, name)
        return collect(problems, name, maker, keys=node if OmegaConf.is_dict(node) else ())

    data = make("data", lambda: _find(_build_part(cfg.data, LightningDataModule)))
    # Without data, what follows them would be missing, which is no error of its own.
    is_known = data is not None or not any(key in cfg.model and cfg.model[key] is None for key in FOLLOWED)
    model = make("model", lambda: _build_model(cfg, data)) if is_known else None
    modes = {str(cfg.optimized_metric): cfg.optimized_mode}
    callbacks = [
        make(f"callbacks.{name}", partial(_build_callback, node, model, modes, last_path.parent / str(name)))
        for name, node in cfg.callbacks.items()
        if node is not None
    ]
    loggers = {
        str(name): make(f"logger.{name}", partial(_build_logger, node, steps_done, logger_runs.get(str(name))))
        for name, node in cfg.logger.items()
        if node is not None
    }
    components = Components(
        datamodule=data,
        model=model,
        callbacks=[callback for callback in callbacks if callback is not None],
        loggers={name: logger for name, logger in loggers.items() if logger is not None},
        last_checkpoint=make("checkpoint", lambda: _build_part(cfg.checkpoint, Callback, path=last_path)),
        make_trainer=make("trainer", lambda: build_partial(cfg.trainer)),
    )
    if model is not None:
        make_optimizer, make_scheduler = build_partial(cfg.optimizer), _build_scheduler(cfg.scheduler)
        if make_optimizer is not None:
            # Once for its errors, as the module will when training starts.
            optimizer = make("optimizer", lambda: _of_kind(make_optimizer(model.parameters()), Optimizer))
            if make_scheduler is not None and optimizer is not None:
                make("scheduler", lambda: make_scheduler(optimizer, 100))
    return components


def collect(problems: list[str], name: str, maker: Callable[[], Part], keys: Container[str] = ()) -> Part | None:
    """Return what `maker` returns; None, with a problem more, if it raises.

    Args:
        problems: Gets a line.
        name: The key of the config that it is about.
        maker: Builds or does something.
        keys: The keys of that node: a message that begins with one of them is about that key.
    """
    try:
        return maker()
    except (
        ValueError,
        TypeError,
        RuntimeError,
        OSError,
        ArithmeticError,
        MemoryError,
        ImportError,
        MisconfigurationException,
        InstantiationException,
    ) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        message = first_line(cause)
        # "batch_size must be …" of the node `data` is about data.batch_size.
        first = message.split(" ")[0].rstrip(":")
        problems.append(message if first == name else f"{name}{'.' if first in keys else ': '}{message}")
        return None


def build_partial(node: DictConfig) -> partial[Any] | None:
    """Return what `node` describes as a function of its remaining arguments; None for an empty node."""
    if not node:
        return None
    made: partial[Any] = instantiate(node, _partial_=True, _convert_="all")
    return made


def _build_part(node: DictConfig, kind: type[Part], **arguments: Any) -> Part:
    """Return what a node describes.

    Raises:
        ValueError: If that is of another kind.
    """
    return _of_kind(instantiate(node, _convert_="all", **arguments), kind)


def _of_kind(part: object, kind: type[Part]) -> Part:
    if not isinstance(part, kind):
        raise ValueError(f"_target_ must be a {kind.__name__}, got {type(part).__module__}.{type(part).__qualname__}")
    return part


def _build_scheduler(node: DictConfig) -> partial[Any] | None:
    """Return what makes a scheduler config from an optimizer and the number of steps; None for an empty node."""
    made = build_partial(node)
    if made is not None and isinstance(made.func, type) and issubclass(made.func, LRScheduler):
        return partial(torch_schedule, kind=made.func, **made.keywords)
    return made


def _find(datamodule: LightningDataModule) -> LightningDataModule:
    """Return a data module; one of the user's own files looks at them first, since a model may follow them."""
    if isinstance(datamodule, UserFilesDataModule):
        datamodule.find()
    return datamodule


def followed(node: Mapping[Any, Any], datamodule: LightningDataModule | None) -> dict[str, Any]:
    """Return the arguments of a model that are null in its node and follow the data, if these have them."""
    values: dict[str, Any] = {}
    for key, name in FOLLOWED.items():
        if key in node and node[key] is None and (value := getattr(datamodule, name, None)) is not None:
            values[key] = math.prod(value) if key == "in_features" else value
    return values


def _build_model(cfg: DictConfig, datamodule: LightningDataModule | None) -> LightningModule:
    """Return the module that `cfg.model` describes, with the functions that make its optimizer and scheduler."""
    make_model = build_partial(cfg.model)
    assert make_model is not None
    makers = {"optimizer": build_partial(cfg.optimizer), "scheduler": _build_scheduler(cfg.scheduler)}
    values = followed(cfg.model, datamodule)
    maker: Any = make_model.func
    hints = annotations_of(getattr(maker, "__init__") if isinstance(maker, type) else maker)  # noqa: B009
    for key, name in FOLLOWED.items():
        is_open = key in hints and key in cfg.model and cfg.model[key] is None and key not in values
        if is_open and find_problem(key, None, hints[key], is_plain=True):
            why = f"{type(datamodule).__name__} has no {name} that null could follow"
            raise ValueError(f"{key} must be given, since {why} (set it in __init__): model.{key}=...")
    model = make_model(**makers, **values)
    return _of_kind(model, LightningModule)


def _build_callback(
    node: DictConfig, model: LightningModule | None, modes: Mapping[str, Any], directory: Path
) -> Callback:
    """Return a callback; one that monitors a metric gets the metric's mode where its own is null.

    Args:
        node: What describes it.
        model: The module that measures the metrics; None if it could not be built.
        modes: The modes of metrics that are chosen in the config; None where they are not.
        directory: Where a ModelCheckpoint writes that has no directory: no other does.

    Raises:
        ValueError: If the mode contradicts the metric, or is null for a metric of which it is not known.
    """
    more: dict[str, Any] = {}
    if {"monitor", "mode"} <= node.keys() and node.mode is None:
        metric = node.monitor
        more["mode"], problem = (None, None) if metric is None else choose_mode(model, metric, modes.get(metric))
        if problem and metric not in modes:  # else there is a line about optimized_mode
            raise ValueError(f"mode must be {problem}")
        more["mode"] = more["mode"] or "min"
    callback = _build_part(node, Callback, **more)
    if isinstance(callback, EarlyStopping | ModelCheckpoint) and callback.monitor is not None:
        _, problem = choose_mode(model, callback.monitor, callback.mode)
        if problem and not more:
            raise ValueError(f"mode must be {problem}")
    if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
        callback.dirpath = str(directory)
    return callback


def _build_logger(node: DictConfig, steps_done: int | None, run_id: str | None) -> Logger:
    """Return a logger, if it can work on this machine."""
    check_available(node)
    more = resumed_arguments(node, steps_done, run_id)
    return _build_part(node, Logger, **more)  # type: ignore[type-abstract]
