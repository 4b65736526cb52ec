"""What is wrong with a config, a line a problem: its values alone, and the objects that were built from it."""

import math
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from backlit.config.filenames import check_filenames
from backlit.config.machine import cpu_cores
from backlit.config.owners import key_owners
from backlit.config.signature import check_signature
from backlit.config.top_level import TRAIN, check_top_level, check_unread
from backlit.config.trainer_flags import check_batches, check_trainer, trainer_flags
from backlit.config.trust import iter_targets, packages_problem, untrusted_targets
from backlit.data import InMemoryDataModule, UserFilesDataModule
from backlit.distributed.environment import launcher_environment
from backlit.errors import ConfigError
from backlit.models import BinaryClassifier, Classifier
from backlit.runs.checkpoint import Checkpoint, find_mismatch
from backlit.runs.files import is_relative_name
from backlit.text import flatten, path_override, shell_word

_GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger")
_MAY_BE_EMPTY = ("scheduler", "callbacks", "logger")


def check_config(cfg: DictConfig, run_dir: Path, *, is_recorded: bool) -> tuple[DictConfig, dict[str, Any], list[str]]:
    """Return a config without Hydra's part, as plain data, and all that is wrong with its values together.

    Args:
        cfg: What ``conf/train.yaml`` composes to.
        run_dir: The run directory, which the returned config has as its ``output_dir``.
        is_recorded: Whether it comes from a run directory, maybe a stranger's.

    Raises:
        ConfigError: With all values that do not fit the signature of what they are given to. These would only fail
            again, less clearly, in the constructors, so nothing should be built then.
    """
    owners = key_owners(cfg)
    problems = list(check_unread(cfg, [*TRAIN, *_GROUPS, "checkpoint", "hydra"]))
    cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    if (wanted := raw.get("output_dir")) not in (None, str(run_dir)):
        problems.append(f"output_dir must be null, got {wanted!r}: hydra.run.dir=... chooses the directory")
    cfg.output_dir = str(run_dir)
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError([*problems, f"{error.full_key} must be given: {error.full_key}=..."]) from None
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError([*problems, f"{key}{str(error).splitlines()[0]}"]) from None
    problems += [line for group in (*_GROUPS, "checkpoint") for line in _check_node(group, plain.get(group))]
    if problem := packages_problem(plain.get("packages")):
        problems.append(problem)
    if not problems and is_recorded:
        problems = list(untrusted_targets(plain, "", plain["packages"]))
    if problems:
        raise ConfigError(problems)
    found = [*iter_targets(plain, "")]
    problems = [line for path, node in found for line in check_signature(path, node, owners)]
    problems += check_top_level(plain, TRAIN)
    at_fault = {line.split(" ")[0] for line in problems}
    problems += [line for line in _check_integers(plain, "") if line.split(" ")[0] not in at_fault]
    together = list(_check_values(plain)) if not any(line.startswith("trainer.") for line in problems) else []
    if problems:
        raise ConfigError(_without_copies(cfg, [*problems, *together]))
    return cfg, plain, together


def _without_copies(cfg: DictConfig, problems: list[str]) -> list[str]:
    """Leave out lines about a value ``${key}`` where there is a line about that key."""
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    copied_from = {key: str(value).strip("${}") for key, value in flatten(raw, ".").items()}
    at_fault = {line.split(" ")[0] for line in problems}
    return [line for line in problems if copied_from.get(key := line.split(" ")[0], key) not in at_fault - {key}]


def _check_node(group: str, node: Any) -> Iterator[str]:
    """Yield a line if a group of the config is missing, or if something in it does not say what it is."""
    if not isinstance(node, dict):
        instead = f"switch it off with {group}=none where there is such an option"
        if group == "checkpoint":
            instead = "a run always has a last.ckpt; checkpoint.every_n_minutes=null writes it after epochs alone"
        yield f"{group} is missing; {instead}"
    elif group in ("callbacks", "logger"):
        for name, part in node.items():
            if part is not None and not (isinstance(part, dict) and "_target_" in part):
                yield f"{group}.{name} must have a _target_, or be null to leave it out, got {part!r}"
    elif "_target_" not in node and (node or group not in _MAY_BE_EMPTY):
        yield f"{group}._target_ is missing"


def _check_integers(node: Any, path: str) -> Iterator[str]:
    """Yield a line for each integer that has more than 64 bits: torch raises an error where it first meets one."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _check_integers(child, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _check_integers(child, f"{path}[{index}]")
    elif isinstance(node, int) and abs(node) >= 2**63:
        yield f"{path} must be between -2**63 and 2**63, got {node}"


def _check_values(plain: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong beyond signatures: what Lightning and torch let pass, and what spans several nodes."""
    yield from check_trainer(plain)
    yield from check_filenames(plain["callbacks"])
    if plain.get("train") is False and plain.get("test") is False:
        yield "train or test must be true, got false for both"
    if isinstance(plain.get("task_name"), str) and not is_relative_name(plain["task_name"]):
        rule = "the name of a directory below outputs/: printable, without '..', parts shorter than 200 characters"
        yield f"task_name must be {rule}, got {plain['task_name']!r}"
    path = plain.get("ckpt_path")
    if plain.get("train") is False and plain.get("test") and path is None:
        yield "ckpt_path must be a checkpoint when train=false, got null"
    for key in ("lr_find", "scale_batch_size"):
        if plain.get("train") is False and plain.get(key) is True:
            yield f"{key} must be false when train=false"
    if plain.get("train") is False and plain.get("init_from") is not None:
        yield "init_from must be null when train=false, which tests ckpt_path"
    if isinstance(path, str) and path and not Path(path).is_file():
        yield f"ckpt_path must be a file, got {path}, which does not exist"


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
    if (sizes := getattr(datamodule, "sizes", None)) is not None:
        yield from check_batches(config, datamodule, sizes)
    if datamodule is not None and trainer is not None:
        yield from _check_processes(config, datamodule, trainer)
    if trainer is not None:
        yield from _check_callbacks(config, trainer)
    if model is not None and checkpoint is not None:
        problem = find_mismatch(model, checkpoint.content["state_dict"])
        if problem:
            instead = f"; to start with what fits: {shell_word(path_override('init_from', checkpoint.path))}"
            yield f"ckpt_path must fit the model: {problem} ({checkpoint.path}){instead if config['train'] else ''}"


def without_modes(problems: list[str]) -> list[str]:
    """Leave out lines about the mode of a metric where there is a line about the metric, which is not measured."""
    at_fault = {line.split(" ")[0] for line in problems}
    names = {line: line.split(" ")[0].removesuffix("mode") for line in problems}
    return [line for line in problems if not {f"{names[line]}metric", f"{names[line]}monitor"} & at_fault]


def check_remaining(trainer: dict[str, Any], checkpoint: dict[str, Any], *, is_extension: bool) -> Iterator[str]:
    """Yield a line if a run that resumes from a checkpoint of its own has done more than the config asks for.

    Args:
        trainer: The Trainer's arguments.
        checkpoint: What the checkpoint holds; `backlit.runs.resumable.find_malformed` has found nothing.
        is_extension: Whether the run is completed, so that something must be left to train.
    """
    epochs, steps = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"], checkpoint["global_step"]
    begun_epochs = epochs["ready"]
    # Lightning's StochasticWeightAveraging adds an epoch to max_epochs if there is BatchNorm, to measure the average's
    # statistics. It averages in every epoch but this one.
    averaging = checkpoint.get("callbacks", {}).get("StochasticWeightAveraging", {})
    if averaging.get("latest_update_epoch") == begun_epochs - 2:
        begun_epochs -= 1
    limits = (
        ("max_epochs", "epochs", begun_epochs, epochs["processed"]),
        ("max_steps", "steps", steps, steps),
    )
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
    given = model.hparams.get("input_shape")
    if shape is not None and given is not None and list(given) != list(shape):
        yield f"model.input_shape must be {list(shape)} for these data, got {list(given)}"
    wanted = getattr(datamodule, "num_classes", None)
    classes = 2 if isinstance(model, BinaryClassifier) else model.hparams.get("num_classes")
    if wanted is not None and classes is not None and classes != wanted:
        yield f"model must distinguish {wanted} classes for these data, got one for {classes}"


def _check_metrics(config: dict[str, Any], datamodule: Any, model: LightningModule) -> Iterator[str]:
    """Yield a line for each metric that is monitored but will not be measured."""
    if not isinstance(model, Classifier):
        return  # what somebody else's module measures is known when it has done so
    validates = getattr(datamodule, "val_size", None) != 0
    if validates and trainer_flags(config["trainer"])["limit_val_batches"] == 0:
        validates = False
    measured = ["val/loss", *(f"val/{name}" for name in model.scores["val_"].keys(keep_base=True))]  # type: ignore[operator]
    metric, scheduler = config["optimized_metric"], config["scheduler"]
    if metric not in measured:
        yield f"optimized_metric must be one of {', '.join(measured)}, got {metric!r}"
    key = "val_fraction" if isinstance(datamodule, UserFilesDataModule) else "val_size"
    why = f"data.{key}=0" if getattr(datamodule, "val_size", None) == 0 else "trainer.limit_val_batches=0"
    if "monitor" in scheduler and (scheduler["monitor"] not in measured or not validates):
        rule = f"one of {', '.join(measured)}" if validates else f"measured, but {why}"
        yield f"scheduler.monitor must be {rule}, got {scheduler['monitor']!r}"
    in_training = ["train/loss", "train/loss_epoch", "train/acc"]
    known = [*in_training, *(measured if validates else []), *(("val/acc_best", "val/loss_best") if validates else [])]
    for name, node in config["callbacks"].items():
        if isinstance(node, dict) and (monitor := node.get("monitor")) is not None and monitor not in known:
            yield f"callbacks.{name}.monitor must be one of {', '.join(known)}, got {monitor!r}"


def _check_callbacks(config: dict[str, Any], trainer: Trainer) -> Iterator[str]:
    """Yield what Lightning would find out in the run: psutil is missing; or never: two averages replace each other."""
    averaging = [one for one in trainer.callbacks if isinstance(one, WeightAveraging)]  # type: ignore[attr-defined]
    if len(averaging) > 1:
        names = ", ".join(type(one).__name__ for one in averaging)
        yield f"callbacks must have one at most that averages the weights, got {names}"
    is_cpu = isinstance(trainer.accelerator, CPUAccelerator)
    for name, node in config["callbacks"].items():
        if node and node["_target_"].endswith(".DeviceStatsMonitor") and find_spec("psutil") is None:
            wanted = node.get("cpu_stats")
            if wanted or (wanted is None and is_cpu):
                yield f"callbacks.{name} needs psutil: pip install 'backlit[device_stats]'"


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
    if config["lr_find"] and processes > 1:
        yield f"lr_find must be false with {processes} processes; find the rate with one: trainer=cpu or trainer=gpu"
    if config["scale_batch_size"] and processes > 1:
        yield f"scale_batch_size must be false with {processes} processes; find it with one: trainer=cpu or trainer=gpu"
    if config["scale_batch_size"] and not hasattr(datamodule, "batch_size"):
        yield "scale_batch_size must be false: data has no attribute batch_size, from which its DataLoader is made"
    for name, rule in (("train_size", ""), ("val_size", " or 0"), ("test_size", "")):
        size = config["data"].get(name)
        is_allowed = size == 0 and name == "val_size"
        if isinstance(size, int) and size < processes and not is_allowed:
            yield f"data.{name} must be >= {processes} (the processes){rule}, got {size}"
    workers, most = getattr(datamodule, "num_workers", 0), max(8, cores)
    if isinstance(datamodule, InMemoryDataModule) and workers > most:
        yield f"data.num_workers must be <= {most}, since the CPU cores here are {cores}, got {workers}"
    batch = getattr(datamodule, "batch_size", None)
    if isinstance(batch, int) and batch % processes:
        yield f"data.batch_size must be divisible by the number of processes ({processes}), got {batch}"
