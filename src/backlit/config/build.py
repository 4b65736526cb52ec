"""Objects from the nodes of a config, with every reason why one cannot be built."""

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning import Callback, LightningDataModule, LightningModule
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import loggers as lightning_loggers
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer

from backlit.data import UserFilesDataModule
from backlit.text import first_line

Part = TypeVar("Part")

# What a model may have of its data, and the attribute of a data module that it comes from.
FOLLOWED = {"in_features": "input_shape", "input_shape": "input_shape", "num_classes": "num_classes"}


@dataclass
class Components:
    """What the nodes of a config describe; None for one that could not be built.

    Args:
        datamodule: The data.
        model: The network with its loss and metrics.
        callbacks: Those of the group ``callbacks``, in their order.
        loggers: Those of the group ``logger``, in their order.
        last_checkpoint: The callback that writes ``last.ckpt``.
        make_trainer: Makes Lightning's Trainer from its remaining arguments.
    """

    datamodule: LightningDataModule | None = None
    model: LightningModule | None = None
    callbacks: list[Callback] = field(default_factory=list)
    loggers: list[Logger] = field(default_factory=list)
    last_checkpoint: Any = None
    make_trainer: partial[Any] | None = None


def build_components(cfg: DictConfig, problems: list[str], *, last_path: Path, steps_done: int | None) -> Components:
    """Build what the nodes of a config describe, each once.

    Args:
        cfg: The whole config.
        problems: Gets a line for each constructor that rejects its arguments: it knows best what it takes.
        last_path: The file of the last checkpoint.
        steps_done: Optimizer steps of the checkpoint that the run resumes from; None for a fresh run.
    """

    def make(name: str, maker: Callable[[], Part]) -> Part | None:
        node = OmegaConf.select(cfg, name)
        return collect(problems, name, maker, keys=node if OmegaConf.is_dict(node) else ())

    data = make("data", lambda: _find(_build_part(cfg.data, LightningDataModule)))
    # Without data, what follows them would be missing, which is no error of its own.
    is_known = data is not None or not any(key in cfg.model and cfg.model[key] is None for key in FOLLOWED)
    model = make("model", lambda: _build_model(cfg, data)) if is_known else None
    callbacks = [
        make(f"callbacks.{name}", partial(_build_callback, node, last_path.parent / str(name)))
        for name, node in cfg.callbacks.items()
        if node is not None
    ]
    loggers = [
        make(f"logger.{name}", partial(_build_logger, node, steps_done))
        for name, node in cfg.logger.items()
        if node is not None
    ]
    components = Components(
        datamodule=data,
        model=model,
        callbacks=[callback for callback in callbacks if callback is not None],
        loggers=[logger for logger in loggers if logger is not None],
        last_checkpoint=make("checkpoint", lambda: _build_part(cfg.checkpoint, Callback, path=last_path)),
        make_trainer=make("trainer", lambda: build_partial(cfg.trainer)),
    )
    if model is not None:
        make_optimizer, make_scheduler = build_partial(cfg.optimizer), build_partial(cfg.scheduler)
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
        separator = "." if message.split(" ")[0] in keys else ": "
        problems.append(f"{name}{separator}{message}")
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
    makers = {"optimizer": build_partial(cfg.optimizer), "scheduler": build_partial(cfg.scheduler)}
    model = make_model(**makers, **followed(cfg.model, datamodule))
    return _of_kind(model, LightningModule)


def _build_callback(node: DictConfig, directory: Path) -> Callback:
    """Return a callback; a ModelCheckpoint without a directory gets one, where no other writes checkpoints."""
    callback = _build_part(node, Callback)
    if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
        callback.dirpath = str(directory)
    return callback


def _build_logger(node: DictConfig, steps_done: int | None) -> Logger:
    """Return a logger; TensorBoard forgets the events of a resumed run from its checkpoint's step on.

    Those of that step itself may be of the test, or of the next step. `training.train.run` records the others again.
    """
    kind = get_object(node["_target_"])
    is_tensorboard = isinstance(kind, type) and issubclass(kind, lightning_loggers.TensorBoardLogger)
    more = {"purge_step": steps_done} if is_tensorboard and steps_done is not None else {}
    return _build_part(node, Logger, **more)  # type: ignore[type-abstract]
