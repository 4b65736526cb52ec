"""How probabilities relate to outcomes: calibration, ROC, precision and recall."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    binary_precision_recall_curve,
    binary_roc,
    multiclass_calibration_error,
)

from backlit.models.calibration import calibration_bins, calibration_pairs
from backlit.plots.image import plain


def draw_calibration(probabilities: Tensor, targets: Tensor, bins: int = 15) -> Figure:
    """Return a figure of how often what the network states comes true, over a histogram of the stated probability.

    It shows what the expected calibration error (ECE) in its title sums up: of two classes the probability of class 1,
    of several that of the predicted class.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        bins: Number of bins, of equal width, as for the expected calibration error; probabilities of exactly 1 have a
            point of their own.
    """
    is_binary = probabilities.ndim == 1
    stated, outcome = calibration_pairs(probabilities, targets)
    index = calibration_bins(stated, bins)
    counts = torch.bincount(index, minlength=bins + 1).double()
    filled = counts > 0
    mean_stated = (torch.bincount(index, stated.double(), bins + 1) / counts)[filled]
    frequency = (torch.bincount(index, outcome.double(), bins + 1) / counts)[filled]
    error = (
        binary_calibration_error(probabilities, targets, bins)
        if is_binary
        else multiclass_calibration_error(probabilities, targets, probabilities.shape[1], bins)
    )
    counts[bins - 1] += counts[bins]
    figure = Figure(figsize=(5.5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfect calibration")
    above.plot(mean_stated.numpy(), frequency.numpy(), marker="o", label="the network")
    above.set(
        ylabel="share of class 1" if is_binary else "accuracy",
        title=f"Calibration: {len(targets):,} samples, {bins} bins, ECE {error:.6f}",
    )
    above.legend()
    edges = torch.linspace(0, 1, bins + 1)
    below.bar(edges[:-1].numpy(), counts[:bins].numpy(), width=1 / bins, align="edge", edgecolor="white")
    judged = "class 1" if is_binary else "the predicted class"
    below.set(xlabel=f"probability of {judged}", ylabel="samples", yscale="log", xlim=(0, 1), ylim=(0.5, None))
    below.yaxis.set_minor_formatter(NullFormatter())
    below.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return figure


def draw_roc(probabilities: Tensor, targets: Tensor, names: Sequence[str]) -> Figure:
    """Return a figure of ROC and precision-recall curves: of class 1, or of each of several classes against the others.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        names: The names of the classes.
    """
    scores_by_class = {1: probabilities} if probabilities.ndim == 1 else dict(enumerate(probabilities.T))
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, scores in scores_by_class.items():
        is_class = (targets == number).long()
        if not 0 < int(is_class.sum()) < len(targets):
            continue  # no curve
        false_positives, true_positives, _ = binary_roc(scores, is_class)
        precision, recall, _ = binary_precision_recall_curve(scores, is_class)
        label = plain(names[number])
        left.plot(false_positives.numpy(), true_positives.numpy(), label=label)
        right.plot(recall.numpy(), precision.numpy(), label=label)
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if left.get_legend_handles_labels()[0]:
        right.legend(title="class", fontsize=8, loc="lower left")
    return figure
