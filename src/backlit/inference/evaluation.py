"""Evaluates a run: metrics, intervals, metrics of each class, and pictures, on its own test set or on other data."""

import logging
import pkgutil
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import LightningDataModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf, read_write

from backlit.callbacks.pictures import class_names, draw_test_figures
from backlit.config.build import build_partial
from backlit.config.check import check_fit
from backlit.config.signature import check_signature
from backlit.config.trust import plain_node, trusted_node
from backlit.data import InMemoryDataModule
from backlit.errors import ConfigError
from backlit.load import LoadedRun
from backlit.models import Classifier
from backlit.models.intervals import bootstrap_intervals, class_metrics
from backlit.models.probabilities import class_probabilities, predict_probabilities
from backlit.plots.calibration import draw_calibration, draw_roc
from backlit.plots.image import png, render
from backlit.runs.files import atomic_write, new_directory, write_json
from backlit.text import first_line

log = logging.getLogger(__name__)


def evaluate_run(cfg: DictConfig, run: LoadedRun) -> tuple[dict[str, Any], Path]:
    """Evaluate a run and write the results.

    Args:
        cfg: What ``conf/evaluate.yaml`` composes to. What it leaves open is set to the run's: data and precision.
        run: The run.

    Returns:
        The content of ``evaluation.json``, and the directory that it and the pictures are in.

    Raises:
        ConfigError: If the data do not fit, or if the results cannot be written.
    """
    with read_write(cfg):
        cfg.data = cfg.data or plain_node(run.config, "data")
        if OmegaConf.is_interpolation(cfg.trainer, "precision"):
            cfg.trainer.precision = run_precision(run.config)
    datamodule, trainer = _build(cfg, run)
    trainer.test(run.model, datamodule, verbose=False)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    details, figures = _examine(cfg, run, datamodule, trainer)
    found = {"run": str(run.directory), "checkpoint": str(run.checkpoint), "metrics": metrics, **details}
    return found, _write(cfg, run, found, figures)


def run_precision(config: DictConfig) -> str:
    """Return the precision of a run's config; that of Lightning where it has none that is plain."""
    precision = str(OmegaConf.select(config, "trainer.precision", default="32-true"))
    return precision if re.fullmatch(r"[\w-]+", precision) else "32-true"


def _build(cfg: DictConfig, run: LoadedRun) -> tuple[LightningDataModule, Trainer]:
    """Return the data to judge by, and a Trainer for one process.

    Raises:
        ConfigError: If they cannot be built, or if the data do not fit the network.
    """
    try:
        _prepare_as_trained(cfg, run.config)
        nodes = {"data": trusted_node(cfg, "data", cfg.packages), "trainer": plain_node(cfg, "trainer")}
        if problems := [line for name, node in nodes.items() for line in check_signature(name, node)]:
            raise ConfigError(problems)
        datamodule: LightningDataModule = instantiate(nodes["data"], _convert_="all")
        datamodule.prepare_data()
        make_trainer = build_partial(cfg.trainer)
        assert make_trainer is not None
        trainer: Trainer = make_trainer(logger=False, enable_checkpointing=False)
    except ConfigError:
        raise
    except InstantiationException as error:
        raise ConfigError([f"data.{error.__cause__ or error}"]) from None
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise ConfigError([first_line(error)]) from None
    if trainer.world_size > 1:
        raise ConfigError([f"trainer.devices must be 1: one process judges, got {trainer.world_size}"])
    if problems := list(check_fit(datamodule, run.model)):
        raise ConfigError(problems)
    return datamodule, trainer


def _prepare_as_trained(cfg: DictConfig, trained: DictConfig) -> None:
    """Set how other data of the same kind are prepared to what the network was trained with, unless it was given."""
    if cfg.data.get("_target_") != trained.data.get("_target_"):
        return
    cls = pkgutil.resolve_name(cfg.data._target_) if str(cfg.data._target_).startswith("backlit.") else None
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    given = {override.split("=")[0] for override in overrides}
    for key in getattr(cls, "preparation", ()):
        if f"data.{key}" not in given and cfg.data[key] != trained.data[key]:
            log.info("data.%s=%s, as in training", key, trained.data[key])
            with read_write(cfg):
                cfg.data[key] = trained.data[key]


def _examine(
    cfg: DictConfig, run: LoadedRun, datamodule: LightningDataModule, trainer: Trainer
) -> tuple[dict[str, Any], dict[str, Figure]]:
    """Return intervals, metrics of each class, and figures; of a module that is no `Classifier`, none of these."""
    if not (isinstance(run.model, Classifier) and isinstance(datamodule, InMemoryDataModule)):
        return {}, {}
    samples, batch_size = datamodule.test_set, datamodule.eval_batch_size
    with trainer.precision_plugin.forward_context():
        probabilities = predict_probabilities(run.model, datamodule, samples.inputs, batch_size=batch_size)
    figures = draw_test_figures(run.model, datamodule, samples, probabilities)
    names = class_names(datamodule, datamodule.num_classes)
    torch.manual_seed(cfg.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of small operations, which several threads only wait for
    try:
        details = {
            "intervals": bootstrap_intervals(run.model, probabilities, samples.targets, cfg.resamples),
            "classes": class_metrics(probabilities, samples.targets, names, cfg.resamples),
        }
    finally:
        torch.set_num_threads(threads)
    figures["calibration"] = draw_calibration(class_probabilities(probabilities), samples.targets)
    figures["roc"] = draw_roc(probabilities, samples.targets, names)
    return details, figures


def _write(cfg: DictConfig, run: LoadedRun, found: dict[str, Any], figures: Mapping[str, Figure]) -> Path:
    """Write ``evaluation.json`` and the pictures, and return their directory.

    Raises:
        ConfigError: If they cannot be written; the directory is removed then.
    """
    wanted = Path(cfg.output_dir or run.directory / "evaluations" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    directory = None
    try:
        directory = new_directory(wanted)
        write_json(directory / "evaluation.json", found)
        for name, figure in figures.items():
            with atomic_write(directory / f"{name}.png") as temporary:
                temporary.write_bytes(png(render(figure)))
    except OSError as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        problem = f"output_dir must be a directory that can be written, got {wanted}: {error.strerror}"
        raise ConfigError([problem]) from None
    return directory
