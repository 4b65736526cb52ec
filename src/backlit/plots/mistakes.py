"""The most confident mistakes of a classifier of images."""

import math
from collections.abc import Sequence

import numpy
import torch
from matplotlib.figure import Figure
from torch import Tensor

from backlit.plots.image import draw_image, draw_labelled_images

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
    most = f"the {len(worst)} most confident of " if len(worst) < len(wrong) else ""
    title = f"{most}{len(wrong):,} mistake{'s' * (len(wrong) != 1)} in {len(targets):,}"
    if not len(worst):
        return draw_image(numpy.zeros((1, 30), numpy.float32), 3, title, cmap="gray_r")[0]
    labels = []
    for index in worst.tolist():
        lines = [f"{names[int(targets[index])]} →", f"{names[int(predicted[index])]} ({confidence[index]:.3f})"]
        labels.append((" " if sum(map(len, lines)) < _LINE else "\n").join(lines))
    columns = math.ceil(math.sqrt(len(worst)))
    title = f"{title[0].upper()}{title[1:]}:\ntrue → predicted (probability)"
    return draw_labelled_images(images[worst], labels, title, columns=columns, cell=1.5, size=9)
