"""Confidence intervals of metrics, for the whole test set and for each class."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torchmetrics.classification as metrics
from lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers import BootStrapper

from backlit.models.calibration import calibration_interval
from backlit.models.classifier import Classifier
from backlit.models.probabilities import class_probabilities
from backlit.models.scores import binary_scores, multiclass_scores


def scores_of(model: LightningModule, probabilities: Tensor) -> MetricCollection:
    """Return the metrics that have intervals: a `Classifier`'s own of the test; else accuracy, F1 score, AUROC, ECE.

    Args:
        model: The module.
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
    """
    if isinstance(model, Classifier):
        scores = model.scores["test_"]
        assert isinstance(scores, MetricCollection)
        return scores
    return binary_scores() if probabilities.ndim == 1 else multiclass_scores(probabilities.shape[1])


def bootstrap_intervals(
    scores: MetricCollection, probabilities: Tensor, targets: Tensor, resamples: int
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the test metrics: percentiles over bootstrap samples (Efron, 1979) of the test set.

    The expected calibration error has `calibration_interval`. A calibration error of another kind has none: bootstrap
    samples do not cover its value.

    Args:
        scores: The metrics.
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        resamples: Number of bootstrap samples, each of n drawn with replacement; 0 for no intervals.
    """
    intervals: dict[str, tuple[float, float]] = {}
    for name, metric in scores.items():
        if isinstance(metric, metrics.BinaryCalibrationError | metrics.MulticlassCalibrationError):
            if resamples and metric.norm == "l1" and metric.ignore_index is None:
                intervals[name] = calibration_interval(probabilities, targets, metric.n_bins)
        elif (bounds := bootstrap_bounds(metric, probabilities, targets, resamples)) is not None:
            intervals[name] = (bounds[0].item(), bounds[1].item())
    return intervals


def bootstrap_bounds(metric: Metric, probabilities: Tensor, targets: Tensor, resamples: int) -> Tensor | None:
    """Return the 2.5th and 97.5th percentile of a metric over bootstrap samples: shape ``(2, ...)``.

    Return None for 0 samples. The samples depend on torch's global generator.
    """
    if not resamples:
        return None
    metric = metric.clone().cpu()
    metric.reset()
    bootstrap = BootStrapper(
        metric, num_bootstraps=resamples, mean=False, std=False, raw=True, sampling_strategy="multinomial"
    )
    bootstrap.update(probabilities, targets)
    with warnings.catch_warnings():
        # Of a small test set, a sample may have no member of a class.
        warnings.filterwarnings("ignore", "No (positive|negative) samples in targets")
        values = bootstrap.compute()["raw"]
    return values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype), dim=0)


def class_metrics(probabilities: Tensor, targets: Tensor, names: Sequence[str], resamples: int) -> list[dict[str, Any]]:
    """Return precision, recall and F1 score of each class, with their 95 % intervals, and the number of its samples.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        names: The names of the classes.
        resamples: Number of bootstrap samples; 0 for no intervals.
    """
    probabilities = class_probabilities(probabilities)
    count = probabilities.shape[1]
    kinds: dict[str, Metric] = {
        "precision": metrics.MulticlassPrecision(count, average="none"),
        "recall": metrics.MulticlassRecall(count, average="none"),
        "f1": metrics.MulticlassF1Score(count, average="none"),
    }
    values = {kind: metric(probabilities, targets) for kind, metric in kinds.items()}
    bounds = {kind: bootstrap_bounds(metric, probabilities, targets, resamples) for kind, metric in kinds.items()}
    support = torch.bincount(targets, minlength=count)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        row: dict[str, Any] = {"class": name, "samples": int(support[number])}
        for kind in kinds:
            row[kind] = values[kind][number].item()
            low_high = bounds[kind]
            if low_high is not None:
                row[f"{kind}_interval"] = tuple(low_high[:, number].tolist())
        rows.append(row)
    return rows
