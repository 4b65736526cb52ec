"""What a network predicts for given images or points."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from backlit.plots.grid import Corners, grid_ticks
from backlit.plots.image import BLUE, ORANGE, draw_labelled_images, plain


def draw_images(images: Tensor, classes: Sequence[str], confidences: Sequence[float], title: str) -> Figure:
    """Return a figure of images, as the network sees them, with their classes and probabilities.

    Args:
        images: Shape ``(n, c, h, w)``, uint8; 3 channels are RGB.
        classes: The predicted class of each image.
        confidences: The probability of this class.
        title: Start of the figure's title.
    """
    labels = [f"{name} ({confidence:.2f})" for name, confidence in zip(classes, confidences, strict=True)]
    columns = min(10, len(images), max(4, math.ceil(math.sqrt(len(images)))))
    title = f"{title}: class (probability)"
    return draw_labelled_images(images, labels, title, columns=columns, cell=0.95, size=7)


def draw_points(
    points: Tensor,
    classes: Sequence[str],
    grid_probabilities: Tensor,
    corners: Corners,
    *,
    class_1: str,
    title: str,
) -> Figure:
    """Return a figure of points in the colours of their classes, over the network's probabilities.

    Args:
        points: Shape ``(n, 2)``.
        classes: The predicted class of each point.
        grid_probabilities: Probabilities of each class at the points of a grid (see `backlit.plots.grid`), shape
            ``(resolution**2, num_classes)``.
        corners: The corners of the grid.
        class_1: The name of class 1, whose probability is the background if there are two classes; with more, it is the
            probability of the most likely class.
        title: Start of the figure's title.
    """
    resolution = math.isqrt(len(grid_probabilities))
    is_binary = grid_probabilities.shape[1] == 2
    background = grid_probabilities[:, 1] if is_binary else grid_probabilities.amax(1)
    field = background.reshape(resolution, resolution).numpy()
    (left, bottom), (right, top) = corners
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    colours: Any = {"cmap": "RdBu_r" if is_binary else "Greys", "vmin": 0, "vmax": 1, "alpha": 0.45}
    shade = axes.imshow(field, origin="lower", extent=(left, right, bottom, top), aspect="auto", **colours)
    shaded = f"class {class_1}" if is_binary else "the likeliest class"
    figure.colorbar(shade, label=f"probability of {shaded}", shrink=0.85)
    if is_binary and field.min() < 0.5 < field.max():
        x, y = grid_ticks(corners, resolution)
        axes.contour(x.numpy(), y.numpy(), field, levels=[0.5], colors="black", linewidths=1.5)
    size, line = (22, 0.6) if len(points) <= 1000 else (5, 0.1)
    for index, name in enumerate(sorted(set(classes))):
        chosen = points[torch.tensor([other == name for other in classes])].numpy()
        colour = f"C{index}"
        if is_binary:
            colour = ORANGE if name == class_1 else BLUE
        style: Any = {"s": size, "color": colour, "linewidths": line, "edgecolors": "white", "zorder": 3}
        axes.scatter(chosen[:, 0], chosen[:, 1], label=plain(f"{name}: {len(chosen):,}"), **style)
    axes.set(xlabel="x", ylabel="y", xlim=(left, right), ylim=(bottom, top), title=f"{title} points")
    figure.legend(title="class", loc="outside lower center", ncols=2, frameon=False)
    return figure
