"""The confusion matrix of a classifier."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional import confusion_matrix

from backlit.plots.image import plain


def draw_confusion_matrix(probabilities: Tensor, targets: Tensor, names: Sequence[str]) -> Figure:
    """Return a figure of the counts of true (row) and predicted (column) classes, shaded by the fraction of the row.

    Args:
        probabilities: Shape ``(n, num_classes)``.
        targets: Shape ``(n,)``.
        names: The names of the classes.
    """
    classes = probabilities.shape[1]
    counts = confusion_matrix(probabilities.argmax(1), targets, task="multiclass", num_classes=classes)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    right = int(counts.diag().sum())
    longest = max(map(len, names))
    names = [plain(name) for name in names]
    # In inches. To find the margins, matplotlib would draw everything twice.
    side, margin, top = max(2.4, 0.6 + 0.55 * classes), 0.6 + 0.09 * longest, 0.4
    width, height = margin + side + 0.15, margin + side + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(classes):
        for column in range(classes):
            if count := int(counts[row, column]):
                dark = shares[row, column] > 0.5
                axes.text(
                    column,
                    row,
                    f"{count}",
                    ha="center",
                    va="center",
                    size=8,
                    color="white" if dark else "black",
                )
    axes.set_xticks(range(classes), names, rotation=0 if longest < 3 else 90)
    axes.set_yticks(range(classes), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:,} of {len(targets):,} right")
    return figure
