"""``backlit-evaluate``: judges the weights of a run, on its own test set or on other data."""

import logging
import re
import shutil
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from backlit.entry import command, quiet_lightning
from backlit.run import ConfigError, from_here, new_directory, whole_file, write_json

if TYPE_CHECKING:
    from lightning import LightningDataModule
    from matplotlib.figure import Figure
    from torch import Tensor

    from backlit.models import Classifier

log = logging.getLogger(__name__)


def main() -> None:
    """Run ``backlit-evaluate``."""
    for argument in sys.argv[1:]:
        if argument.startswith("run="):
            offer_data_of_run(argument.removeprefix("run="))
    command(evaluate, "evaluate")


def offer_data_of_run(run: str) -> Any:
    """Make a run's own data an option of the group ``data``, and its precision known, as conf/evaluate.yaml wants it.

    So ``data.margin=0.2`` changes the run's own data, and ``data=fashion_mnist`` takes others.

    Returns:
        The config of the data; nothing if there is none: `evaluate` says why.
    """
    from backlit.load import find_run, plain_node, read_config

    try:
        config = read_config(find_run(run)[0])
        node = plain_node(config, "data")
        precision = str(OmegaConf.select(config, "trainer.precision", default="32-true"))
    except (ValueError, OmegaConfBaseException):
        return {}
    precision = precision if re.fullmatch(r"[\w-]+", precision) else "32-true"
    ConfigStore.instance().store(group="data", name="of_run", node=node)
    OmegaConf.register_new_resolver("backlit.precision", lambda: precision, replace=True)
    return node


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test a run's checkpoint and return the metrics, the same figures as at the end of its training.

    Beside the table on the screen it writes into ``evaluations/<date>_<time>`` of the run directory, or where
    `cfg.output_dir` says: ``evaluation.json`` and pictures.

    Args:
        cfg: What ``conf/evaluate.yaml`` composes to; `cfg.run` is a run directory, a checkpoint in it, or ``latest``.

    Raises:
        ConfigError: If there is no such run, it has no such checkpoint, or the data do not fit.
    """
    for name in ("resamples", "seed"):
        if not isinstance(cfg[name], int) or isinstance(cfg[name], bool) or cfg[name] < 0:
            raise ConfigError([f"{name} must be a whole number >= 0, got {cfg[name]}"])
    import torch
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from backlit.callbacks.pictures import draw, png, predict, render
    from backlit.config import build_partial, check_fit
    from backlit.data import InMemoryDataModule
    from backlit.load import check_named, load_named, trusted
    from backlit.models import Classifier

    quiet_lightning()
    check_named(cfg)
    if not cfg.data:  # called from Python, or there is no such run
        with read_write(cfg):
            cfg.data = offer_data_of_run(cfg.run)
    run = load_named(cfg)
    try:
        _prepare_as_trained(cfg, run.config)
        datamodule: LightningDataModule = instantiate(trusted(cfg, "data", cfg.packages), _convert_="all")
        datamodule.prepare_data()
        make_trainer = build_partial(cfg.trainer)
        assert make_trainer is not None
        trainer = make_trainer(logger=False, enable_checkpointing=False)
    except InstantiationException as error:
        raise ConfigError([f"data.{error.__cause__ or error}"]) from None
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise ConfigError([str(error).splitlines()[0]]) from None
    if trainer.world_size > 1:
        raise ConfigError([f"trainer.devices must be 1: one process judges, got {trainer.world_size}"])
    if problems := list(check_fit(datamodule, run.model)):
        raise ConfigError(problems)
    trainer.test(run.model, datamodule, verbose=False)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    found: dict[str, Any] = {"run": str(run.directory), "checkpoint": str(run.checkpoint), "metrics": metrics}
    figures: dict[str, Figure] = {}
    if isinstance(run.model, Classifier) and isinstance(datamodule, InMemoryDataModule):
        samples = datamodule.test_set
        with trainer.precision_plugin.forward_context():
            probabilities = predict(run.model, datamodule, samples.inputs)
        figures = draw(run.model, datamodule, samples)
        names = getattr(datamodule, "classes", None) or [str(c) for c in range(datamodule.num_classes)]
        torch.manual_seed(cfg.seed)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # thousands of small operations, which several threads only wait for
        found["intervals"] = intervals(run.model, probabilities, samples.targets, cfg.resamples)
        found["classes"] = per_class(probabilities, samples.targets, names, cfg.resamples)
        torch.set_num_threads(threads)
        figures["calibration"] = draw_calibration(probabilities, samples.targets)
        figures["roc"] = draw_roc(probabilities, samples.targets, names)
    wanted = Path(cfg.output_dir or run.directory / "evaluations" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    directory = None
    try:
        directory = new_directory(wanted)
        write_json(directory / "evaluation.json", found)
        for name, figure in figures.items():
            with whole_file(directory / f"{name}.png") as temporary:
                temporary.write_bytes(png(render(figure)))
    except OSError as error:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        raise ConfigError(
            [f"output_dir must be a directory that can be written, got {wanted}: {error.strerror}"]
        ) from None
    _show(found)
    log.info("  weights   %s", from_here(run.checkpoint))
    log.info("  written   %s: evaluation.json%s", from_here(directory), ", pictures" * bool(figures))
    return metrics


def _prepare_as_trained(cfg: DictConfig, trained: DictConfig) -> None:
    """Let other data of the same kind be prepared as those that the network has learned from, unless told otherwise."""
    import pkgutil

    if cfg.data.get("_target_") != trained.data.get("_target_"):
        return
    module = pkgutil.resolve_name(cfg.data._target_) if str(cfg.data._target_).startswith("backlit.") else None
    told = [o.split("=")[0] for o in HydraConfig.get().overrides.task] if HydraConfig.initialized() else []
    for key in getattr(module, "preparation", ()):
        if f"data.{key}" not in told and cfg.data[key] != trained.data[key]:
            log.info("%s=%s, as it was trained", f"data.{key}", trained.data[key])
            with read_write(cfg):
                cfg.data[key] = trained.data[key]


def intervals(
    model: "Classifier", probabilities: "Tensor", targets: "Tensor", resamples: int
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the test metrics: percentiles over bootstrap samples (Efron, 1979) of the test set.

    Args:
        model: Has the metrics.
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        resamples: How many samples, each of n drawn with replacement; 0 for no intervals.
    """
    return {
        f"test/{name}": (bounds[0].item(), bounds[1].item())
        for name, metric in model.scores["test_"].items(keep_base=True)  # type: ignore[operator]
        if (bounds := _bounds(metric, probabilities, targets, resamples)) is not None
    }


def _bounds(metric: Any, probabilities: "Tensor", targets: "Tensor", resamples: int) -> "Tensor | None":
    """Return the 2.5th and 97.5th percentile of a metric over bootstrap samples: shape ``(2, ...)``."""
    import torch
    from torchmetrics.wrappers import BootStrapper

    if not resamples:
        return None
    metric = metric.clone().cpu()
    metric.reset()
    bootstrap = BootStrapper(
        metric, num_bootstraps=resamples, mean=False, std=False, raw=True, sampling_strategy="multinomial"
    )
    bootstrap.update(probabilities, targets)
    values = bootstrap.compute()["raw"]
    return values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype), dim=0)


def per_class(probabilities: "Tensor", targets: "Tensor", names: list[str], resamples: int) -> list[dict[str, Any]]:
    """Return precision, recall and F1 score of each class, with their 95 % intervals, and how many samples it has.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        names: What the classes are called.
        resamples: How many bootstrap samples; 0 for no intervals.
    """
    import torch
    import torchmetrics.classification as metrics

    several = _several(probabilities)
    count = several.shape[1]
    kinds = {
        "precision": metrics.MulticlassPrecision(count, average="none"),
        "recall": metrics.MulticlassRecall(count, average="none"),
        "f1": metrics.MulticlassF1Score(count, average="none"),
    }
    values = {name: metric(several, targets) for name, metric in kinds.items()}
    bounds = {name: _bounds(metric, several, targets, resamples) for name, metric in kinds.items()}
    support = torch.bincount(targets, minlength=count)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        row: dict[str, Any] = {"class": name, "samples": int(support[number])}
        for kind in kinds:
            row[kind] = values[kind][number].item()
            of_kind = bounds[kind]
            if of_kind is not None:
                row[f"{kind}_interval"] = tuple(of_kind[:, number].tolist())
        rows.append(row)
    return rows


def _several(probabilities: "Tensor") -> "Tensor":
    """Return the probabilities of each class, shape ``(n, num_classes)``, also where those of class 1 are given."""
    import torch

    return torch.stack([1 - probabilities, probabilities], 1) if probabilities.ndim == 1 else probabilities


def draw_calibration(probabilities: "Tensor", targets: "Tensor", bins: int = 15) -> "Figure":
    """Return how often the network is right against how sure it is, and how often it is how sure.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        bins: Of equal width, those of the expected calibration error.
    """
    import torch
    from matplotlib.figure import Figure

    confidence, predicted = _several(probabilities).max(1)
    right = (predicted == targets).double()
    edges = torch.linspace(0, 1, bins + 1)
    index = torch.bucketize(confidence, edges[1:-1])
    counts = torch.bincount(index, minlength=bins).double()
    filled = counts > 0
    sure = (torch.bincount(index, confidence.double(), bins) / counts)[filled]
    share = (torch.bincount(index, right, bins) / counts)[filled]
    figure = Figure(figsize=(5.5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="as sure as right")
    above.plot(sure.numpy(), share.numpy(), marker="o", label="the network")
    above.set(ylabel="share that is right", title=f"Calibration: {len(targets):,} samples, {bins} bins")
    above.legend()
    below.bar(edges[:-1].numpy(), counts.numpy(), width=1 / bins, align="edge", edgecolor="white")
    below.set(xlabel="probability of the predicted class", ylabel="samples", yscale="log", xlim=(0, 1))
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return figure


def draw_roc(probabilities: "Tensor", targets: "Tensor", names: list[str]) -> "Figure":
    """Return ROC and precision-recall curves: of class 1, or of each of several classes against the others.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        names: What the classes are called.
    """
    from matplotlib.figure import Figure
    from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    classes = range(1, 2) if probabilities.ndim == 1 else range(probabilities.shape[1])
    for c in classes:
        scores, of_class = _several(probabilities)[:, c], (targets == c).long()
        if not 0 < int(of_class.sum()) < len(targets):
            continue  # no curve
        false_positives, true_positives, _ = binary_roc(scores, of_class)
        precision, recall, _ = binary_precision_recall_curve(scores, of_class)
        left.plot(false_positives.numpy(), true_positives.numpy(), label=names[c].split(" - ")[0])
        right.plot(recall.numpy(), precision.numpy(), label=names[c].split(" - ")[0])
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if left.get_legend_handles_labels()[0]:
        right.legend(title="class", fontsize=8, loc="lower left")
    return figure


def _show(found: Mapping[str, Any]) -> None:
    """Print the metrics and what each class has, with their intervals."""
    from backlit.run import text_of

    bounds = found.get("intervals") or {}
    rows = [
        [name, f"{value:.4f}", f"{bounds[name][0]:.4f} – {bounds[name][1]:.4f}" if name in bounds else ""]
        for name, value in found["metrics"].items()
    ]
    log.info("%s\n", text_of(["", "value", "95 % interval"], rows))
    if classes := found.get("classes"):
        kinds = ("precision", "recall", "f1")
        rows = []
        for row in classes:
            cells = [row["class"], str(row["samples"])]
            for kind in kinds:
                low_high = row.get(f"{kind}_interval")
                cells.append(f"{row[kind]:.4f}" + (f" ({low_high[0]:.3f} – {low_high[1]:.3f})" if low_high else ""))
            rows.append(cells)
        log.info("%s\n", text_of(["class", "samples", *kinds], rows))


if __name__ == "__main__":
    main()
