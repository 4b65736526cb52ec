"""The most confident mistakes of a classifier of images."""

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from backlit.plots.image import bare_axes, show_images


def draw_mistakes(
    images: Tensor, targets: Tensor, probabilities: Tensor, names: Sequence[str], count: int = 25
) -> Figure:
    """Return a figure of the misclassified images with the highest confidence.

    Args:
        images: Shape ``(n, c, h, w)``, 0 to 255; 3 channels are RGB.
        targets: Shape ``(n,)``.
        probabilities: Shape ``(n, num_classes)``.
        names: The names of the classes.
        count: Maximum number of images.
    """
    confidence, predicted = probabilities.max(1)
    wrong = torch.nonzero(predicted != targets).flatten()
    worst = wrong[confidence[wrong].argsort(descending=True)][:count]
    figure, axes = bare_axes(7.5, 8.4)
    axes.set_title(f"Most confident of {len(wrong):,} mistakes in {len(targets):,}: true → predicted (probability)")
    if len(worst):
        height, width = images.shape[-2:]
        gap = max(2, height // 3)  # the labels are in the gaps
        columns = math.ceil(math.sqrt(count))
        show_images(axes, images[worst], columns, gap)
        labels = [name.split(" - ")[0] for name in names]
        for place, index in enumerate(worst.tolist()):
            row, column = divmod(place, columns)
            text = f"{labels[int(targets[index])]} → {labels[int(predicted[index])]} ({confidence[index]:.3f})"
            middle = gap + column * (width + gap) + width / 2
            axes.text(middle, (row + 1) * gap + row * height - 1, text, ha="center", va="bottom", size=9)
    return figure
