"""The metrics of classifiers."""

import torchmetrics.classification as metrics
from torchmetrics import MetricCollection


def multiclass_scores(num_classes: int) -> MetricCollection:
    """Return accuracy, macro F1 score, AUROC and calibration error of probabilities ``(b, num_classes)``."""
    return MetricCollection(
        {
            "acc": metrics.MulticlassAccuracy(num_classes, average="micro"),
            "f1": metrics.MulticlassF1Score(num_classes, average="macro"),
            "auroc": metrics.MulticlassAUROC(num_classes),
            "ece": metrics.MulticlassCalibrationError(num_classes, n_bins=15),
        }
    )


def binary_scores() -> MetricCollection:
    """Return accuracy, F1 score of class 1, AUROC and calibration error of probabilities ``(b,)`` of class 1."""
    return MetricCollection(
        {
            "acc": metrics.BinaryAccuracy(),
            "f1": metrics.BinaryF1Score(),
            "auroc": metrics.BinaryAUROC(),
            "ece": metrics.BinaryCalibrationError(n_bins=15),
        }
    )
