"""A run from its config: everything that it needs, built once; all that is wrong is reported together."""

import warnings
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig
from torchmetrics import Metric

from backlit.config.build import Components, build_components, collect
from backlit.config.check import check_built, check_config, check_remaining, without_modes
from backlit.config.modes import choose_modes
from backlit.config.trainer_flags import trainer_flags
from backlit.data import UserFilesDataModule
from backlit.errors import ConfigError
from backlit.loggers.metrics_csv import MetricsCSV
from backlit.logs import quiet_lightning
from backlit.models.classifier import Classifier, Recorder
from backlit.runs.checkpoint import Checkpoint, SafeCheckpointIO
from backlit.runs.resumable import find_malformed
from backlit.runs.run import Run
from backlit.training.accumulation import PartialAccumulation
from backlit.training.best_checkpoint import BestCheckpoint
from backlit.training.initial_weights import InitialWeights
from backlit.training.last_checkpoint import LastCheckpoint
from backlit.training.restorable import find_unloadable
from backlit.training.start_of_training import StartOfTraining
from backlit.training.trainer import build_trainer


@dataclass
class RunParts:
    """What a run is made of.

    Args:
        run_dir: Its directory.
        config: Its config as plain data.
        steps_done: Optimizer steps of the checkpoint that it resumes from; None for a fresh run.
        is_extension: Whether it is completed, and trained longer.
        model: The network with its loss and metrics.
        datamodule: The data.
        trainer: Lightning's, with all callbacks and loggers.
        start: The callback that runs when training starts.
        metrics_csv: The logger of ``metrics.csv``; None in a ``fast_dev_run``, which writes nothing.
        best: The callback that keeps the best checkpoint; None without validation.
        last: The callback that keeps the last checkpoint; None in a ``fast_dev_run``.
        loggers: The loggers of the config, by name.
        sessions: Those whose session has begun and has not ended, by name.
        initial: The weights of another run that it starts with; None without ``init_from``.
        data_state: What the checkpoint that it resumes from holds of its data; None for nothing.
        caught_warnings: The warnings of the constructors; the run issues them again, for its log.
    """

    run_dir: Path
    config: dict[str, Any]
    steps_done: int | None
    is_extension: bool
    model: LightningModule
    datamodule: LightningDataModule
    trainer: Trainer
    start: StartOfTraining
    metrics_csv: MetricsCSV | None
    best: BestCheckpoint | None
    last: LastCheckpoint | None
    loggers: dict[str, Logger] = field(default_factory=dict)
    sessions: dict[str, Logger] = field(default_factory=dict)
    initial: InitialWeights | None = None
    data_state: dict[str, Any] | None = None
    caught_warnings: list[warnings.WarningMessage] = field(default_factory=list)


@quiet_lightning()
def build_run(
    cfg: DictConfig, run_dir: Path, checkpoint: Checkpoint | None = None, *, is_recorded: bool = False
) -> RunParts:
    """Build a run; nothing is written. All random generators are seeded before.

    Args:
        cfg: What ``conf/train.yaml`` composes to.
        run_dir: The run directory.
        checkpoint: What `cfg.ckpt_path` holds, if it has been read already.
        is_recorded: Whether the config comes from a run directory, maybe a stranger's; it may then name no code but
            that of backlit, lightning, torch, and of `cfg.packages`.

    Raises:
        ConfigError: With all that is wrong, a line a problem.
    """
    cfg, config, problems = check_config(cfg, run_dir, is_recorded=is_recorded)
    path = config["ckpt_path"]
    if checkpoint is None and path is not None and Path(path).is_file():
        checkpoint = collect(problems, "ckpt_path", lambda: Checkpoint.read(Path(path)))
    # A run resumes if it trains from a checkpoint of its own; from another run's it takes the weights.
    steps_done, is_extension, logger_runs = None, False, dict[str, str]()
    if checkpoint is not None and config["train"] and checkpoint.is_of(run_dir):
        if problem := find_malformed(checkpoint.content):
            raise ConfigError([*problems, _no_resume(checkpoint, problem)])
        steps_done = checkpoint.content["global_step"]
        earlier = Run.read(run_dir)
        is_extension = earlier is not None and earlier.status == "completed"
        logger_runs = {} if earlier is None else earlier.logger_runs
        problems += check_remaining(config["trainer"], checkpoint.content, is_extension=is_extension)
    last_path = (run_dir / "checkpoints").resolve() / "last.ckpt"
    if not problems:
        lightning.seed_everything(config["seed"], workers=True, verbose=False)
    with warnings.catch_warnings(record=True) as caught:
        components = build_components(
            cfg, problems, last_path=last_path, steps_done=steps_done, logger_runs=logger_runs
        )
        problems += choose_modes(config, components.model)
        parts = _assemble(components, config, problems, run_dir, steps_done, checkpoint)
        parts.is_extension = is_extension
        with isolate_rng():
            problems += check_built(config, components.datamodule, components.model, parts.trainer, checkpoint)
            if not problems and checkpoint is not None and steps_done is not None:
                problem = find_unloadable(checkpoint.content, parts.trainer, parts.model, parts.datamodule)
                problems += [_no_resume(checkpoint, problem)] if problem else []
    initial = None
    if config["init_from"] and config["train"] and steps_done is None and components.model is not None:
        find = partial(InitialWeights.find, config["init_from"], components.model)
        initial = collect(problems, "init_from", find)
        if checkpoint is not None:
            problems.append("init_from must be null with ckpt_path, which has all weights")
    if problems:
        raise ConfigError(without_modes(problems))
    parts.caught_warnings = caught
    if checkpoint is not None and steps_done is not None:
        parts.data_state = checkpoint.content.get(type(parts.datamodule).__qualname__)
    if checkpoint is not None and config["train"] and steps_done is None:
        _load_weights(parts.model, parts.trainer, checkpoint)
    if initial is not None:
        parts.trainer.precision_plugin.convert_module(parts.model)
        initial.load(parts.model)
        parts.initial = initial
    return parts


def _no_resume(checkpoint: Checkpoint, problem: str) -> str:
    return f"ckpt_path must be a checkpoint to resume from, got {checkpoint.path}, {problem}"


def _load_weights(model: LightningModule, trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Let a new run start with the weights of another run's checkpoint, and with nothing else of it.

    The optimizer, its rate, the schedule, the counts of steps and epochs, the best values so far and the random
    generators are those of the new run's config.
    """
    # Lightning converts the model when training starts: float64 weights would pass through float32.
    trainer.precision_plugin.convert_module(model)
    model.load_state_dict(checkpoint.content["state_dict"])
    for module in model.modules():
        if isinstance(module, Metric):
            module.reset()


def find_problems(cfg: DictConfig, run_dir: Path = Path(), *, is_recorded: bool = False) -> list[str]:
    """Return what is wrong with a config, a line a problem; prepare the data, so that missing data are reported."""
    try:
        prepare_data(build_run(cfg, run_dir, is_recorded=is_recorded))
    except ConfigError as error:
        return error.problems
    return []


def prepare_data(parts: RunParts) -> None:
    """Get the data of a run, where they are not there yet.

    Raises:
        ConfigError: If that is impossible.
    """
    problems: list[str] = []
    with isolate_rng():
        collect(problems, "data", parts.datamodule.prepare_data, keys=parts.config["data"])
        if not problems and isinstance(parts.datamodule, UserFilesDataModule) and parts.data_state is not None:
            # Lightning would compare them when the run has begun.
            collect(problems, "data", partial(parts.datamodule.load_state_dict, parts.data_state))
    if problems:
        raise ConfigError(problems)


def _assemble(
    components: Components,
    config: dict[str, Any],
    problems: list[str],
    run_dir: Path,
    steps_done: int | None,
    checkpoint: Checkpoint | None,
) -> RunParts:
    """Add to the components what every run has: its records, its checkpoints, the Trainer.

    Where `problems` is not empty, parts may be missing.
    """
    flags, start = trainer_flags(config["trainer"]), StartOfTraining(run_dir / "checkpoints", config)
    last, metrics_csv, best = None, None, None
    if not flags["fast_dev_run"]:
        last = components.last_checkpoint
        rows_done = None if checkpoint is None else checkpoint.content.get("metrics_csv_rows")
        metrics_csv = collect(
            problems,
            "resume",
            lambda: MetricsCSV(run_dir / "metrics.csv", steps_done=steps_done, rows_done=rows_done),
        )
        validates = flags["limit_val_batches"] != 0 and getattr(components.datamodule, "val_size", None) != 0
        if validates and config["optimized_mode"] in ("min", "max"):
            averages = any(isinstance(callback, WeightAveraging) for callback in components.callbacks)
            metric, mode = config["optimized_metric"], config["optimized_mode"]
            best = BestCheckpoint(run_dir / "checkpoints", metric, mode, is_early=averages)
    make_trainer, timeout_s = components.make_trainer, config["process_timeout"]
    trainer: Any = None
    if make_trainer is not None and not any(line.startswith("trainer.") for line in problems):
        first: Callback = Recorder() if isinstance(components.model, Classifier) else PartialAccumulation()
        own_callbacks = [callback for callback in (start, best, last) if callback is not None]
        own_loggers = [] if metrics_csv is None else [metrics_csv]
        trainer = collect(
            problems,
            "trainer",
            lambda: build_trainer(
                make_trainer,
                flags,
                run_dir=run_dir,
                callbacks=[first, *components.callbacks, *own_callbacks],
                loggers=[*own_loggers, *components.loggers.values()],
                checkpoint_io=SafeCheckpointIO(None if config["train"] and steps_done is None else checkpoint),
                timeout=timedelta(seconds=timeout_s),
                is_lean=config["lean_loop"],
            ),
            keys=flags,
        )
    model: Any = components.model
    datamodule: Any = components.datamodule
    parts = RunParts(run_dir, config, steps_done, False, model, datamodule, trainer, start, metrics_csv, best, last)
    parts.loggers = components.loggers
    return parts
