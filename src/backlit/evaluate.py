"""``backlit-evaluate``: judges the weights of a run, on its own test set or on other data."""

import contextlib
import logging
import pkgutil
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from backlit.cli.app import run_command
from backlit.config.conf import offer_run_data
from backlit.errors import ConfigError
from backlit.logs import quiet_lightning
from backlit.runs.files import atomic_write, new_directory, write_json
from backlit.text import first_line, shell_path, text_table

if TYPE_CHECKING:
    from lightning import LightningDataModule, Trainer
    from matplotlib.figure import Figure

    from backlit.load import LoadedRun


log = logging.getLogger(__name__)


def main() -> None:
    """Run ``backlit-evaluate``."""
    for argument in sys.argv[1:]:
        if argument.startswith("run="):
            _offer_data(argument.removeprefix("run="))
    try:
        run_command(evaluate, "evaluate")
    finally:
        offer_run_data({}, "32-true")  # the next command of this process is about another run


def _offer_data(run: str) -> None:
    """Let ``data.margin=0.2`` change the run's own data, before Hydra composes the config.

    If there is no such run, nothing is offered: `evaluate` reports why.
    """
    from backlit.config.trust import plain_node
    from backlit.load import read_config
    from backlit.runs.find import find_run

    with contextlib.suppress(ValueError, OmegaConfBaseException):
        config = read_config(find_run(run)[0])
        offer_run_data(plain_node(config, "data"), _precision(config))


def _precision(config: DictConfig) -> str:
    """Return the precision of a run's config; that of Lightning where it has none that is plain."""
    precision = str(OmegaConf.select(config, "trainer.precision", default="32-true"))
    return precision if re.fullmatch(r"[\w-]+", precision) else "32-true"


@quiet_lightning()
def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test a run's checkpoint and return the metrics, the same figures as at the end of its training.

    Beside the table on the screen it writes ``evaluation.json`` and pictures into ``evaluations/<date>_<time>`` of the
    run directory, or into `cfg.output_dir`.

    Args:
        cfg: What ``conf/evaluate.yaml`` composes to; `cfg.run` is a run directory, a checkpoint in it, or ``latest``.

    Raises:
        ConfigError: If there is no such run, it has no such checkpoint, or the data do not fit.
    """
    from backlit.config.trust import plain_node
    from backlit.load import load_named

    for name in ("resamples", "seed"):
        if not isinstance(cfg[name], int) or isinstance(cfg[name], bool) or cfg[name] < 0:
            raise ConfigError([f"{name} must be a whole number >= 0, got {cfg[name]}"])
    run = load_named(cfg)
    with read_write(cfg):  # what `main` has offered where the command line does not say otherwise; also from Python
        cfg.data = cfg.data or plain_node(run.config, "data")
        if OmegaConf.is_interpolation(cfg.trainer, "precision"):
            cfg.trainer.precision = _precision(run.config)
    datamodule, trainer = _build(cfg, run)
    trainer.test(run.model, datamodule, verbose=False)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    details, figures = _examine(cfg, run, datamodule, trainer)
    found = {"run": str(run.directory), "checkpoint": str(run.checkpoint), "metrics": metrics, **details}
    directory = _write(cfg, run, found, figures)
    _show(found)
    names = ["evaluation.json", "pictures"] if figures else ["evaluation.json"]
    log.info("  weights   %s", shell_path(run.checkpoint))
    log.info("  written   %s: %s", shell_path(directory), ", ".join(names))
    return metrics


def _build(cfg: DictConfig, run: "LoadedRun") -> "tuple[LightningDataModule, Trainer]":
    """Return the data to judge by, and a Trainer for one process.

    Raises:
        ConfigError: If they cannot be built, or if the data do not fit the network.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from backlit.config.build import build_partial
    from backlit.config.check import check_fit
    from backlit.config.trust import trusted_node

    try:
        _prepare_as_trained(cfg, run.config)
        datamodule: LightningDataModule = instantiate(trusted_node(cfg, "data", cfg.packages), _convert_="all")
        datamodule.prepare_data()
        make_trainer = build_partial(cfg.trainer)
        assert make_trainer is not None
        trainer: Trainer = make_trainer(logger=False, enable_checkpointing=False)
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
    cfg: DictConfig, run: "LoadedRun", datamodule: "LightningDataModule", trainer: "Trainer"
) -> "tuple[dict[str, Any], dict[str, Figure]]":
    """Return intervals, metrics of each class, and figures; of a module that is no `Classifier`, none of these."""
    import torch

    from backlit.callbacks.pictures import class_names, draw_test_figures
    from backlit.data import InMemoryDataModule
    from backlit.models import Classifier
    from backlit.models.intervals import bootstrap_intervals, class_metrics
    from backlit.models.probabilities import class_probabilities, predict_probabilities
    from backlit.plots.calibration import draw_calibration, draw_roc

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


def _write(cfg: DictConfig, run: "LoadedRun", found: dict[str, Any], figures: "Mapping[str, Figure]") -> Path:
    """Write ``evaluation.json`` and the pictures, and return their directory.

    Raises:
        ConfigError: If they cannot be written; the directory is removed then.
    """
    from backlit.plots.image import png, render

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


def _show(found: Mapping[str, Any]) -> None:
    """Print the metrics, and those of each class, with their intervals."""
    intervals = found.get("intervals", {})
    rows = []
    for name, value in found["metrics"].items():
        low_high = intervals.get(name)
        rows.append([name, f"{value:.4f}", f"{low_high[0]:.4f} – {low_high[1]:.4f}" if low_high else ""])
    log.info("%s\n", text_table(["", "value", "95 % interval"], rows))
    kinds = ("precision", "recall", "f1")
    if classes := found.get("classes"):
        rows = [[row["class"], str(row["samples"]), *_class_cells(row, kinds)] for row in classes]
        log.info("%s\n", text_table(["class", "samples", *kinds], rows))


def _class_cells(row: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    """Return the metrics of a class as text, with their intervals where there are some."""
    cells = []
    for kind in kinds:
        low_high = row.get(f"{kind}_interval")
        interval = f" ({low_high[0]:.3f} – {low_high[1]:.3f})" if low_high else ""
        cells.append(f"{row[kind]:.4f}{interval}")
    return cells


if __name__ == "__main__":
    main()
