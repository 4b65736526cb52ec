"""Looks at a config before anything is started: all that is wrong with it, in one go, one line each."""

import difflib
import functools
import inspect
import math
import os
import pkgutil
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backlit.entry import goes_on, quiet_lightning
from backlit.load import mismatch, not_trusted, read_checkpoint, targets
from backlit.models import BinaryClassifier, Classifier
from backlit.ranks import cluster


def problems(cfg: DictConfig) -> list[str]:
    """Return what is wrong with a config of `backlit.train`: nothing, or one line a problem.

    First every node with a ``_target_`` is held against the signature that it will be called with, then
    everything is built once and thrown away: a constructor knows best what it takes.
    """
    quiet_lightning()
    cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    cfg.output_dir = "."
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        return [str(error).splitlines()[0]]
    assert isinstance(plain, dict)
    for group in ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger"):
        if not isinstance(plain.get(group), dict):
            return [f"{group} must be there; switch it off with {group}=none where there is such an option"]
    if goes_on() and (found := list(not_trusted(plain, "", plain["packages"] or []))):
        return found
    found = [line for path, node in targets(plain, "") for line in _check_signature(path, node)]
    # What has the wrong type would only fail again, less clearly, in the constructors.
    return found or [*_check_top(plain), *_build(cfg)]


def _check_signature(path: str, node: dict[str, Any]) -> Iterator[str]:
    try:
        target = pkgutil.resolve_name(node["_target_"])
    except (ImportError, ValueError, AttributeError) as error:
        yield f"{path}._target_ must be something that can be imported, got {node['_target_']}: {_first_line(error)}"
        return
    signature = inspect.signature(target)
    hints = typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else inspect.unwrap(target))  # noqa: B009
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key, value in node.items():
        if key in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
            continue
        if key not in signature.parameters:
            if not takes_any:
                close = difflib.get_close_matches(str(key), signature.parameters, n=1)
                hint = f", did you mean {close[0]}?" if close else ""
                yield f"{path}.{key}: {target.__name__} has no such argument{hint}"
        elif key in hints and not _matches(value, hints[key]):
            yield f"{path}.{key} must be {_describe(hints[key])}, got {value!r}"


def _matches(value: Any, hint: Any) -> bool:
    """Tell whether a value from YAML may stand where a signature says `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar) or (isinstance(value, dict) and "_target_" in value):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is Literal:
        return any(value == argument and type(value) is type(argument) for argument in arguments)
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if hint is int:
        return isinstance(value, int)
    if hint is float:
        return isinstance(value, int | float)
    if hint in (str, Path, timedelta):
        return isinstance(value, str)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return isinstance(value, dict)
    if isinstance(kind, type) and issubclass(kind, Iterable):
        elements = [a for a in arguments if a is not Ellipsis] or [Any]
        if kind is tuple and Ellipsis not in arguments:
            return (
                isinstance(value, list)
                and len(value) == len(elements)
                and all(_matches(v, e) for v, e in zip(value, elements, strict=True))
            )
        return isinstance(value, list) and all(_matches(v, elements[0]) for v in value)
    return False


def _describe(hint: Any) -> str:
    """Return a type as a person says it: ``int or null``, ``one of adam, sgd``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        literals = [x for a in arguments if typing.get_origin(a) is Literal for x in typing.get_args(a)]
        others = [a for a in arguments if typing.get_origin(a) is not Literal]
        described = [f"one of {', '.join(dict.fromkeys(map(str, literals)))}"] if literals else []
        # What only Python can write (a Tensor, a Strategy object) is no help on a command line.
        described += [_describe(a) for a in others if a in (int, float, str, bool, type(None)) or typing.get_origin(a)]
        return " or ".join(described)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if hint in (None, type(None)):
        return "null"
    if arguments and isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if arguments:
        return f"a list of {_describe(arguments[0])}"
    return getattr(hint, "__name__", str(hint))


def _check_top(plain: dict[Any, Any]) -> Iterator[str]:
    """Yield what is wrong beyond signatures: what Lightning and torch let pass, and what spans several nodes."""
    lr = plain["optimizer"].get("lr")
    if isinstance(lr, int | float) and not 0 < lr < math.inf:
        yield f"optimizer.lr must be > 0 and finite, got {lr}"
    trainer = plain["trainer"]
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps")
    bounded = (isinstance(steps, int) and steps > 0) or trainer.get("max_time") is not None
    if isinstance(epochs, int) and epochs < 1 and not (epochs == -1 and bounded):
        yield f"trainer.max_epochs must be >= 1 (or -1 with max_steps or max_time), got {epochs}"
    if plain["scheduler"] and epochs == -1 and not (isinstance(steps, int) and steps > 0):
        yield "trainer.max_steps must be > 0 with a scheduler and max_epochs=-1: it has to know the number of steps"
    every = trainer.get("check_val_every_n_epoch")
    if isinstance(every, int) and every < 1:
        yield f"trainer.check_val_every_n_epoch must be >= 1 or null, got {every}"
    if plain["train"] is False and plain["test"] is False:
        yield "train or test must be true, got false for both"
    types = {"seed": int, "train": bool, "test": bool, "lean_loop": bool, "tags": list}
    for name, kind in {**types, "task_name": str, "optimized_metric": str}.items():
        value = plain[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            yield f"{name} must be {kind.__name__}, got {value!r}"
    if isinstance(plain["seed"], int) and not 0 <= plain["seed"] < 2**32:
        yield f"seed must be >= 0 and < 2**32, got {plain['seed']}"
    if not isinstance(plain["process_timeout"], int | float) or not plain["process_timeout"] > 0:
        yield f"process_timeout must be > 0 (seconds), got {plain['process_timeout']!r}"
    if plain["optimized_mode"] not in ("min", "max"):
        yield f"optimized_mode must be one of min, max, got {plain['optimized_mode']!r}"
    if not plain["train"] and plain["test"] and plain["ckpt_path"] is None:
        yield "ckpt_path must be a checkpoint when train=false, got null"
    if plain["ckpt_path"] is not None and not Path(plain["ckpt_path"]).is_file():
        yield f"ckpt_path must be a file, got {plain['ckpt_path']}, which does not exist"


def _check_checkpoint(path: Path, model: Any, trains: bool) -> Iterator[str]:
    """Yield a line if a checkpoint cannot be read, or is not of this model."""
    try:
        content = read_checkpoint(path)
    except ValueError as error:
        yield f"ckpt_path: {error}"
        return
    if trains and not {"global_step", "loops", "optimizer_states"} <= content.keys():
        yield f"ckpt_path must be a checkpoint to go on from, got {path}, which has weights alone"
    elif problem := mismatch(model, content["state_dict"]):
        yield f"ckpt_path must fit the model: {problem} ({path})"


def build_partial(node: DictConfig) -> Callable[..., Any] | None:
    """Return what `node` describes as a function that wants its remaining arguments; None for an empty node."""
    if not node:
        return None
    made: Callable[..., Any] = instantiate(node, _partial_=True, _convert_="all")
    return made


def build_model(cfg: DictConfig) -> Any:
    """Return the module that `cfg.model` describes, with what makes its optimizer and scheduler."""
    make_model = build_partial(cfg.model)
    assert make_model is not None
    return make_model(optimizer=build_partial(cfg.optimizer), scheduler=build_partial(cfg.scheduler))


def _build(cfg: DictConfig) -> Iterator[str]:
    """Build everything as `backlit.train` does; yield what the constructors say against it."""
    built: dict[str, Any] = {}

    def make(name: str, maker: Callable[[], Any]) -> Iterator[str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the run itself will give them
                built[name] = maker()
        except (
            ValueError,
            TypeError,
            RuntimeError,
            OSError,
            ImportError,
            MisconfigurationException,
            InstantiationException,
        ) as error:
            cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
            message = _first_line(cause)
            # "batch_size must be …" of the node `data` is about data.batch_size.
            about = message.split(" ")[0] in (OmegaConf.select(cfg, name) or {})
            yield f"{name}.{message}" if about else f"{name}: {message}"

    def trainer() -> Any:
        make_trainer = build_partial(cfg.trainer)
        assert make_trainer is not None
        try:
            return make_trainer(logger=False, enable_checkpointing=False)
        except (MisconfigurationException, RuntimeError, ValueError) as error:
            if not any(word in str(error).lower() for word in ("accelerator", "backend", "device", "strategy")):
                raise
            hardware = ("accelerator", "devices", "strategy", "num_nodes", "precision")
            asked = ", ".join(f"{name}={cfg.trainer[name]}" for name in hardware)
            raise ValueError(f"must fit this machine and itself, got {asked}: {_first_line(error)}") from None

    yield from make("data", functools.partial(instantiate, cfg.data, _convert_="all"))
    yield from make("model", functools.partial(build_model, cfg))
    yield from make("trainer", trainer)
    for group in ("callbacks", "logger"):
        for name, node in cfg[group].items():
            yield from make(f"{group}.{name}", functools.partial(instantiate, node, _convert_="all"))
    yield from make("checkpoint", functools.partial(instantiate, cfg.checkpoint, path="last.ckpt"))
    if "model" in built:
        make_optimizer, make_scheduler = build_partial(cfg.optimizer), build_partial(cfg.scheduler)
        if make_optimizer is not None and 0 < cfg.optimizer.get("lr", 1) < math.inf:
            yield from make("optimizer", lambda: make_optimizer(built["model"].parameters()))
        if make_scheduler is not None and "optimizer" in built:
            yield from make("scheduler", lambda: make_scheduler(built["optimizer"], 100))
    if "model" in built and cfg.ckpt_path is not None and Path(cfg.ckpt_path).is_file():
        yield from _check_checkpoint(Path(cfg.ckpt_path), built["model"], cfg.train)
    if "data" in built and "model" in built:
        yield from check_fit(built["data"], built["model"])
        yield from _check_metrics(cfg, built["data"], built["model"])
    if "data" in built and "trainer" in built:
        yield from _check_processes(cfg, built["data"], built["trainer"])
        yield from make("data", built["data"].prepare_data)


def check_fit(datamodule: Any, model: Any) -> Iterator[str]:
    """Yield a line if the network does not read what the data give."""
    shape, reads = getattr(datamodule, "input_shape", None), model.hparams.get("in_features")
    if shape is not None and reads is not None and reads != math.prod(shape):
        yield f"model.in_features must be {math.prod(shape)} for these data, got {reads}"
    gives = getattr(datamodule, "num_classes", None)
    tells = 2 if isinstance(model, BinaryClassifier) else model.hparams.get("num_classes")
    if gives is not None and tells is not None and tells < gives:
        yield f"model must tell {gives} classes apart for these data, got one for {tells}"


def _check_metrics(cfg: DictConfig, datamodule: Any, model: Any) -> Iterator[str]:
    """Yield a line for each metric that is watched but will not be measured."""
    if not isinstance(model, Classifier):
        return  # what somebody else's module measures is known when it has done so
    validates = getattr(datamodule, "val_size", None) != 0
    measured = ["val/loss", *(f"val/{name}" for name in model.scores["val_"].keys(keep_base=True))]  # type: ignore[operator]
    if cfg.optimized_metric not in measured:
        yield f"optimized_metric must be one of {', '.join(measured)}, got {cfg.optimized_metric!r}"
    if "monitor" in cfg.scheduler and (cfg.scheduler.monitor not in measured or not validates):
        rule = f"one of {', '.join(measured)}" if validates else "measured, but data.val_size=0"
        yield f"scheduler.monitor must be {rule}, got {cfg.scheduler.monitor!r}"


def _check_processes(cfg: DictConfig, datamodule: Any, trainer: Any) -> Iterator[str]:
    """Yield a line for each thing that cannot be divided among the processes, or if the machine cannot hold them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        yield f"trainer.devices must be <= {cores} (the CPU cores here), got {trainer.num_devices}"
    processes = trainer.num_devices * trainer.num_nodes
    environment = cluster()
    started = 1 if environment is None else environment.world_size()
    if environment is not None and processes != started:
        product = f"{trainer.num_devices} x {trainer.num_nodes}"
        yield f"trainer.devices x trainer.num_nodes must be {started} (the processes started here), got {product}"
    elif environment is None and trainer.num_nodes > 1:
        yield f"trainer.num_nodes must be 1 unless torchrun or srun starts the processes, got {trainer.num_nodes}"
    if (
        isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
        and trainer.strategy.launcher._start_method == "fork"
    ):
        yield "trainer.strategy must not fork a process that has computed before; ddp and ddp_spawn do not"
    for name in ("train_size", "val_size", "test_size"):
        size = cfg.data.get(name)
        if isinstance(size, int) and size < processes and (size or name != "val_size"):
            yield f"data.{name} must be >= {processes} (the processes){' or 0' * (name == 'val_size')}, got {size}"
    batch = getattr(datamodule, "batch_size", None)
    if isinstance(batch, int) and batch % processes:
        yield f"data.batch_size must be divisible by the number of processes ({processes}), got {batch}"


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
