"""Evaluates a run: metrics, intervals, metrics of each class, and pictures, on its own test set or on other data."""

import inspect
import logging
import pkgutil
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
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

from backlit.callbacks.attempt import Attempts
from backlit.callbacks.evaluated import evaluate_samples
from backlit.callbacks.pictures import draw_test_figures
from backlit.config.build import build_partial
from backlit.config.check import check_fit
from backlit.config.conf import CONFIG_DIR
from backlit.config.signature import check_signature
from backlit.config.trust import plain_node, trusted_node
from backlit.data import UserFilesDataModule
from backlit.errors import ConfigError
from backlit.load import LoadedRun
from backlit.models import Classifier
from backlit.models.intervals import bootstrap_intervals, class_metrics, scores_of
from backlit.models.probabilities import class_probabilities
from backlit.models.protocol import class_labels, missing_definition
from backlit.plots.calibration import draw_calibration, draw_roc
from backlit.plots.image import png, render
from backlit.runs.files import atomic_write, new_directory, write_json
from backlit.runs.places import outside_places, place_to_type
from backlit.text import first_line, quote_value

log = logging.getLogger(__name__)

# The Trainer's flags that change an evaluation; Lightning ignores the others when it tests.
_TESTING_FLAGS = (
    "accelerator",
    "devices",
    "strategy",
    "num_nodes",
    "precision",
    "limit_test_batches",
    "fast_dev_run",
    "deterministic",
    "benchmark",
    "inference_mode",
    "enable_progress_bar",
    "plugins",
)


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
    if not cfg.data or _chooses_data_of_run():
        _check_places(plain_node(run.config, "data"), run.directory)
    with read_write(cfg):
        cfg.data = cfg.data or plain_node(run.config, "data")
        if OmegaConf.is_interpolation(cfg.trainer, "precision"):
            cfg.trainer.precision = run_precision(run.config)
    if problems := list(_check_flags(cfg.trainer)):
        raise ConfigError(problems)
    datamodule, trainer = _build(cfg, run)
    try:
        trainer.test(run.model, datamodule, verbose=False)
    except MisconfigurationException as error:  # a fraction of the batches that comes to none
        raise ConfigError([f"trainer.limit_test_batches: {first_line(error)}"]) from None
    except FloatingPointError as error:
        raise ConfigError([str(error)]) from None
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    details, figures = _examine(cfg, run, datamodule, trainer)
    metrics |= details.pop("scores", {})
    found = {"run": str(run.directory), "checkpoint": str(run.checkpoint), "metrics": metrics, **details}
    return found, _write(cfg, run, found, figures)


def _chooses_data_of_run() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().runtime.choices.get("data") == "of_run"


def _typed_keys() -> set[str]:
    """Return the keys that the command line sets."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {override.split("=")[0].lstrip("+") for override in overrides}


def _check_places(data: dict[str, Any], run_dir: Path) -> None:
    """Raise `ConfigError` if a run's data node names a place that the command line does not set.

    Data may be unpacked there, and the run may be a stranger's: within its directory there may be links.
    """
    typed = _typed_keys()
    rule = "is where its data were; to use it, type it"
    problems = [
        f"{key}={place} of this run {rule}: {_override(key, place_to_type(place, run_dir))}"
        for key, place in outside_places(data, "data", None)
        if key not in typed
    ]
    if problems:
        raise ConfigError(problems)


def _override(key: str, place: str) -> str:
    """Return an override as it is typed in a shell."""
    is_plain = re.fullmatch(r"[\w/.+-]+", place) is not None
    return f"{key}={place}" if is_plain else shlex.quote(f"{key}={quote_value(place)}")


def _check_flags(flags: DictConfig) -> Iterator[str]:
    """Yield a line for each flag of the Trainer that does not change an evaluation and is not at its default."""
    defaults = OmegaConf.load(CONFIG_DIR / "trainer" / "default.yaml")
    known = inspect.signature(Trainer).parameters
    for name in set(flags) - {"_target_", *_TESTING_FLAGS}:
        if name in known and flags[name] != defaults.get(name):  # of an unknown one Lightning complains
            yield f"trainer.{name} does not change an evaluation; these do: {', '.join(_TESTING_FLAGS)}"
    limit = flags.get("limit_test_batches")
    if isinstance(limit, int | float) and not limit > 0:
        yield f"trainer.limit_test_batches must be > 0 or null, got {limit}"


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
        data: Any = trusted_node(cfg, "data", cfg.packages)
        flags: Any = plain_node(cfg, "trainer")
        if problems := [*check_signature("data", data), *check_signature("trainer", flags)]:
            raise ConfigError(problems)
        datamodule: LightningDataModule = instantiate(data, _convert_="all")
        if isinstance(datamodule, UserFilesDataModule) and type(datamodule) is type(run.datamodule):
            # Read and scaled as in training; what is held out for the test is chosen by the config.
            datamodule.load_state_dict(run.datamodule.state_dict())
        elif isinstance(datamodule, UserFilesDataModule):
            datamodule.find()
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
    given = _typed_keys()
    for key in getattr(cls, "preparation", ()):
        if f"data.{key}" not in given and cfg.data[key] != trained.data[key]:
            log.info("data.%s=%s, as in training", key, trained.data[key])
            with read_write(cfg):
                cfg.data[key] = trained.data[key]


def _examine(
    cfg: DictConfig, run: LoadedRun, datamodule: LightningDataModule, trainer: Trainer
) -> tuple[dict[str, Any], dict[str, Figure]]:
    """Return intervals, metrics of each class, and figures; why there are none, if the parts do not offer enough."""
    missing = missing_definition(run.model, datamodule)
    try:
        samples = None if missing else evaluate_samples(trainer, run.model, datamodule, "test")
    except ValueError as error:
        samples, missing = None, first_line(error)
    if samples is None:
        return {"missing": missing}, {}
    probabilities, targets = samples.probabilities, samples.targets
    names = class_labels(datamodule, class_probabilities(probabilities).shape[1])
    if targets.min() < 0 or targets.max() >= len(names):
        span = f"{int(targets.min())} to {int(targets.max())}"
        return {"missing": f"targets must be from 0 to {len(names) - 1}, as the probabilities are, got {span}"}, {}
    scores = scores_of(run.model, probabilities)
    figures = draw_test_figures(run.model, datamodule, samples, boundary_of="test")
    torch.manual_seed(cfg.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of small operations, which several threads only wait for
    try:
        details: dict[str, Any] = {
            "samples": len(targets),
            "intervals": bootstrap_intervals(scores, probabilities, targets, cfg.resamples),
            "classes": class_metrics(probabilities, targets, names, cfg.resamples),
        }
    finally:
        torch.set_num_threads(threads)
    if not isinstance(run.model, Classifier):  # which has logged these itself
        details["scores"] = {name: value.item() for name, value in scores(probabilities, targets).items()}
    figures["calibration"] = draw_calibration(probabilities, targets)
    figures["roc"] = draw_roc(probabilities, targets, names)
    return details, figures


def _write(cfg: DictConfig, run: LoadedRun, found: dict[str, Any], figures: Mapping[str, Figure]) -> Path:
    """Write ``evaluation.json`` and the pictures, and return their directory.

    Raises:
        ConfigError: If they cannot be written; the directory is removed then.
    """
    wanted = Path(cfg.output_dir or run.directory / "evaluations" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    if not cfg.output_dir and not wanted.resolve().is_relative_to(run.directory.resolve()):
        raise ConfigError(
            [f"{wanted.parent} must be a directory of its own, but is a link; choose one: output_dir=..."]
        )
    directory = None
    try:
        directory = new_directory(wanted)
        write_json(directory / "evaluation.json", found)
        for name, figure in figures.items():
            with Attempts().attempt(f"the picture {name}"), atomic_write(directory / f"{name}.png") as temporary:
                temporary.write_bytes(png(render(figure)))
    except OSError as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        problem = f"output_dir must be a directory that can be written, got {wanted}: {error.strerror}"
        raise ConfigError([problem]) from None
    return directory
