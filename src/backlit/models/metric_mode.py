"""Whether the smallest or the largest value of a metric is its best."""

import re
from typing import Literal

from lightning import LightningModule
from torchmetrics import MetricCollection

from backlit.models.classifier import Classifier

Mode = Literal["min", "max"]

_SMALLEST = ("loss", "ece", "error", "mse", "mae", "rmse", "nll", "perplexity")
_LARGEST = ("acc", "accuracy", "f1", "auroc", "auc", "precision", "recall")


def usual_mode(metric: str) -> Mode | None:
    """Return ``min`` or ``max`` for a metric of a usual name: ``val/loss``, ``val_acc``; None for any other."""
    name = re.split(r"[/_]", metric)[-1]
    return "min" if name in _SMALLEST else "max" if name in _LARGEST else None


def metric_mode(model: LightningModule | None, metric: str) -> Mode | None:
    """Return ``min`` or ``max`` for a metric that a module measures; None if that is unknown.

    A `Classifier` has metrics of torchmetrics, which know it (``higher_is_better``); of other modules the metrics'
    names are all that is known before they train.
    """
    if isinstance(model, Classifier):
        scores = model.scores["val_"]
        assert isinstance(scores, MetricCollection)
        is_better = {name: score.higher_is_better for name, score in scores.items()}
        if (higher := is_better.get(metric)) is not None:
            return "max" if higher else "min"
    return usual_mode(metric)
