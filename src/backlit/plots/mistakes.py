"""The most confident mistakes of a classifier of images."""

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from backlit.plots.image import bare_axes, plain, show_images

# Characters of size 9 that fit over an image.
_LINE = 18


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
        gap = max(2, height // 3)  # the names are in the gaps
        columns = math.ceil(math.sqrt(count))
        show_images(axes, images[worst], columns, gap)
        for place, index in enumerate(worst.tolist()):
            row, column = divmod(place, columns)
            lines = [f"{names[int(targets[index])]} →", f"{names[int(predicted[index])]} ({confidence[index]:.3f})"]
            is_short = sum(map(len, lines)) < _LINE
            size = 9 * min(1, _LINE / max(map(len, lines)))
            text = plain((" " if is_short else "\n").join(lines))
            middle = gap + column * (width + gap) + width / 2
            bottom = (row + 1) * gap + row * height - 0.5
            axes.text(middle, bottom, text, ha="center", va="bottom", size=size, linespacing=0.95)
    return figure
