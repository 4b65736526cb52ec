"""What is wrong with a config, a line a problem: its values alone, and the objects that were built from it."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backlit.config.machine import cpu_cores
from backlit.config.signature import check_signature
from backlit.config.trust import iter_targets, packages_problem, untrusted_targets
from backlit.distributed.environment import launcher_environment
from backlit.errors import ConfigError
from backlit.models import BinaryClassifier, Classifier
from backlit.runs.checkpoint import Checkpoint, find_mismatch
from backlit.runs.files import is_relative_name

_GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger")
_TYPES = {
    "seed": int,
    "train": bool,
    "test": bool,
    "lean_loop": bool,
    "tags": list,
    "task_name": str,
    "optimized_metric": str,
}


def check_config(cfg: DictConfig, *, is_recorded: bool) -> tuple[dict[str, Any], list[str]]:
    """Return a config as plain data, and what is wrong with its values, a line a problem.

    Args:
        cfg: What ``conf/train.yaml`` composes to.
        is_recorded: Whether it comes from a run directory, maybe a stranger's.

    Raises:
        ConfigError: With all values that do not fit the signature of what they are given to. These would only fail
            again, less clearly, in the constructors, so nothing should be built then.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError([str(error).splitlines()[0]]) from None
    for group in _GROUPS:
        if not isinstance(plain.get(group), dict):
            raise ConfigError([f"{group} is missing; switch it off with {group}=none where there is such an option"])
    if problem := packages_problem(plain["packages"]):
        raise ConfigError([problem])
    if is_recorded and (problems := list(untrusted_targets(plain, "", plain["packages"]))):
        raise ConfigError(problems)
    if problems := [line for path, node in iter_targets(plain, "") for line in check_signature(path, node)]:
        raise ConfigError(problems)
    return plain, list(_check_values(plain))


def _check_values(plain: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong beyond signatures: what Lightning and torch let pass, and what spans several nodes."""
    lr = plain["optimizer"].get("lr")
    if isinstance(lr, int | float) and not 0 < lr < math.inf:
        yield f"optimizer.lr must be > 0 and finite, got {lr}"
    yield from _check_trainer_values(plain["trainer"], has_scheduler=bool(plain["scheduler"]))
    if plain["train"] is False and plain["test"] is False:
        yield "train or test must be true, got false for both"
    for name, kind in _TYPES.items():
        value = plain[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            yield f"{name} must be {kind.__name__}, got {value!r}"
    if isinstance(plain["task_name"], str) and not is_relative_name(plain["task_name"]):
        rule = "the name of a directory below outputs/: printable, without '..', parts shorter than 200 characters"
        yield f"task_name must be {rule}, got {plain['task_name']!r}"
    if isinstance(plain["seed"], int) and not 0 <= plain["seed"] < 2**32:
        yield f"seed must be >= 0 and < 2**32, got {plain['seed']}"
    if not isinstance(plain["process_timeout"], int | float) or not plain["process_timeout"] > 0:
        yield f"process_timeout must be > 0 (seconds), got {plain['process_timeout']!r}"
    if plain["optimized_mode"] not in ("min", "max", None):
        yield f"optimized_mode must be one of min, max or null, got {plain['optimized_mode']!r}"
    if not plain["train"] and plain["test"] and plain["ckpt_path"] is None:
        yield "ckpt_path must be a checkpoint when train=false, got null"
    if plain["ckpt_path"] is not None and not Path(plain["ckpt_path"]).is_file():
        yield f"ckpt_path must be a file, got {plain['ckpt_path']}, which does not exist"


def _check_trainer_values(trainer: dict[str, Any], *, has_scheduler: bool) -> Iterator[str]:
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps")
    counts_steps = isinstance(steps, int) and steps > 0
    is_bounded = counts_steps or trainer.get("max_time") is not None
    if isinstance(epochs, int) and epochs < 1 and not (epochs == -1 and is_bounded):
        yield f"trainer.max_epochs must be >= 1 (or -1 with max_steps or max_time), got {epochs}"
    if has_scheduler and epochs == -1 and not counts_steps:
        yield "trainer.max_steps must be > 0 with a scheduler and max_epochs=-1: it has to know the number of steps"
    every = trainer.get("check_val_every_n_epoch")
    if isinstance(every, int) and every < 1:
        yield f"trainer.check_val_every_n_epoch must be >= 1 or null, got {every}"
    strategy = trainer.get("strategy")
    start = strategy.get("start_method", "popen") if isinstance(strategy, dict) else str(strategy)
    if any(word in start for word in ("spawn", "fork", "notebook")):
        # A forked child hangs in OpenMP, since the checks have computed; a spawned one brings no loggers back.
        yield f"trainer.strategy must start its processes by the command itself, got {start}: trainer=ddp or ddp_cpu"


def check_built(
    config: dict[str, Any],
    datamodule: LightningDataModule | None,
    model: LightningModule | None,
    trainer: Trainer | None,
    checkpoint: Checkpoint | None,
) -> Iterator[str]:
    """Yield what is wrong with built objects together; None stands for one that could not be built."""
    if model is not None and datamodule is not None:
        yield from check_fit(datamodule, model)
        yield from _check_metrics(config, datamodule, model)
    if datamodule is not None and trainer is not None:
        yield from _check_processes(config, datamodule, trainer)
    if model is not None and checkpoint is not None:
        resumes = config["train"] and checkpoint.steps_in(Path(config["output_dir"])) is not None
        yield from _check_checkpoint(checkpoint, model, resumes=resumes)


def _check_checkpoint(checkpoint: Checkpoint, model: LightningModule, *, resumes: bool) -> Iterator[str]:
    """Yield a line if a checkpoint is not of this model, or has not all that a run resumes from."""
    if resumes and not {"global_step", "loops", "optimizer_states"} <= checkpoint.content.keys():
        yield f"ckpt_path must be a checkpoint to resume from, got {checkpoint.path}, which has weights alone"
    elif problem := find_mismatch(model, checkpoint.content["state_dict"]):
        yield f"ckpt_path must fit the model: {problem} ({checkpoint.path})"


def check_remaining(trainer: dict[str, Any], checkpoint: dict[str, Any], *, is_extension: bool) -> Iterator[str]:
    """Yield a line if a run that resumes from a checkpoint of its own has done more than the config asks for.

    Args:
        trainer: The Trainer's arguments.
        checkpoint: What the checkpoint holds.
        is_extension: Whether the run is completed, so that something must be left to train.
    """
    if "loops" not in checkpoint:
        return  # `check_built` reports that it has weights alone
    try:
        epochs, steps = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"], checkpoint["global_step"]
        limits = (
            ("max_epochs", "epochs", int(epochs["ready"]), int(epochs["processed"])),
            ("max_steps", "steps", int(steps), int(steps)),
        )
    except (KeyError, TypeError, ValueError):
        yield "ckpt_path must be a checkpoint that Lightning has written in training, got one without its progress"
        return
    for name, unit, begun, done in limits:
        limit = trainer.get(name)
        if not isinstance(limit, int) or limit < 0:
            continue
        if limit < begun:
            yield f"trainer.{name} must be >= {begun} ({unit} that the run has begun), got {limit}"
        elif is_extension and limit <= done:
            yield f"trainer.{name} must be > {done} ({unit} that the completed run has done), got {limit}"


def check_fit(datamodule: Any, model: LightningModule) -> Iterator[str]:
    """Yield a line if the network cannot read the data's inputs, or has fewer classes than they have."""
    shape, in_features = getattr(datamodule, "input_shape", None), model.hparams.get("in_features")
    if shape is not None and in_features is not None and in_features != math.prod(shape):
        yield f"model.in_features must be {math.prod(shape)} for these data, got {in_features}"
    wanted = getattr(datamodule, "num_classes", None)
    classes = 2 if isinstance(model, BinaryClassifier) else model.hparams.get("num_classes")
    if wanted is not None and classes is not None and classes < wanted:
        yield f"model must distinguish {wanted} classes for these data, got one for {classes}"


def _check_metrics(config: dict[str, Any], datamodule: Any, model: LightningModule) -> Iterator[str]:
    """Yield a line for each metric that is monitored but will not be measured."""
    if not isinstance(model, Classifier):
        return  # what somebody else's module measures is known when it has done so
    validates = getattr(datamodule, "val_size", None) != 0
    measured = ["val/loss", *(f"val/{name}" for name in model.scores["val_"].keys(keep_base=True))]  # type: ignore[operator]
    metric, scheduler = config["optimized_metric"], config["scheduler"]
    if metric not in measured:
        yield f"optimized_metric must be one of {', '.join(measured)}, got {metric!r}"
    if "monitor" in scheduler and (scheduler["monitor"] not in measured or not validates):
        rule = f"one of {', '.join(measured)}" if validates else "measured, but data.val_size=0"
        yield f"scheduler.monitor must be {rule}, got {scheduler['monitor']!r}"


def _check_processes(config: dict[str, Any], datamodule: Any, trainer: Trainer) -> Iterator[str]:
    """Yield a line for each thing that cannot be divided among the processes, or if the machine cannot hold them."""
    cores = cpu_cores()
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        yield f"trainer.devices must be <= {cores} (the CPU cores here), got {trainer.num_devices}"
    processes = trainer.num_devices * trainer.num_nodes
    environment = launcher_environment()
    started = 1 if environment is None else environment.world_size()
    if environment is not None and processes != started:
        product = f"{trainer.num_devices} x {trainer.num_nodes}"
        yield f"trainer.devices x trainer.num_nodes must be {started} (the processes started here), got {product}"
    elif environment is None and trainer.num_nodes > 1:
        yield f"trainer.num_nodes must be 1 unless torchrun or srun starts the processes, got {trainer.num_nodes}"
    elif processes > 1 and environment is None and re.search(r'["\\]', config["output_dir"]):
        # Lightning hands it to the other processes between double quotes.
        yield f"hydra.run.dir must be without double quotes and backslashes for processes, got {config['output_dir']}"
    for name, rule in (("train_size", ""), ("val_size", " or 0"), ("test_size", "")):
        size = config["data"].get(name)
        is_allowed = size == 0 and name == "val_size"
        if isinstance(size, int) and size < processes and not is_allowed:
            yield f"data.{name} must be >= {processes} (the processes){rule}, got {size}"
    batch = getattr(datamodule, "batch_size", None)
    if isinstance(batch, int) and batch % processes:
        yield f"data.batch_size must be divisible by the number of processes ({processes}), got {batch}"
