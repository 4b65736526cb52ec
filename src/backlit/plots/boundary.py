"""The decision boundary in the plane."""

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from backlit.plots.grid import Corners, grid_ticks
from backlit.plots.image import BLUE, ORANGE

SQUARE: Corners = ((-1, -1), (1, 1))


def draw_boundary(
    grid_probabilities: Tensor,
    points: Tensor,
    labels: Tensor,
    predicted: Tensor,
    *,
    kind: str,
    weights: tuple[float, float],
    offset: float,
    corners: Corners = SQUARE,
) -> Figure:
    """Return a figure of the learned boundary, points and the true line.

    Args:
        grid_probabilities: Probabilities of class 1 on a grid over the rectangle (see `backlit.plots.grid`), shape
            ``(resolution**2,)``.
        points: Shape ``(n, 2)``.
        labels: Their classes, shape ``(n,)``, 0 or 1.
        predicted: The predicted classes, shape ``(n,)``.
        kind: What the points are, for the title: ``training`` or ``test``.
        weights: w of the true line w·p + b = 0.
        offset: b of the true line.
        corners: The corners of the rectangle that is shown.
    """
    resolution = math.isqrt(len(grid_probabilities))
    field = grid_probabilities.reshape(resolution, resolution).numpy()
    x, y = grid_ticks(corners, resolution)
    (left, bottom), (right, top) = corners
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    colours: Any = {"cmap": "RdBu_r", "vmin": 0, "vmax": 1, "alpha": 0.45}
    shade = axes.imshow(field, origin="lower", extent=(left, right, bottom, top), **colours)
    figure.colorbar(shade, label="probability of class 1", shrink=0.85)
    # matplotlib warns of a contour that is nowhere in the rectangle.
    if field.min() < 0.5 < field.max():
        axes.contour(x.numpy(), y.numpy(), field, levels=[0.5], colors="black", linewidths=1.5)
    size, edge, ring, line = (22, 0.6, 90, 1.2) if len(points) <= 1000 else (5, 0.1, 12, 0.4)
    for label, colour in ((0, BLUE), (1, ORANGE)):
        chosen = points[labels == label].numpy()
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, color=colour, edgecolors="white", linewidths=edge)
    wrong = points[predicted != labels].numpy()
    axes.scatter(wrong[:, 0], wrong[:, 1], s=ring, facecolors="none", edgecolors="black", linewidths=line)
    ends = _line_ends(weights, offset, reach=2 * max(map(abs, (left, right, bottom, top)))).numpy()
    axes.plot(ends[:, 0], ends[:, 1], "--", color="black", linewidth=1)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y", aspect="equal")
    count = f"{len(points) - len(wrong):,} of {len(points):,} {kind} points right"
    axes.set_title(f"{count}\nsolid: learned (0.5), dashed: given, ringed: wrong")
    return figure


def _line_ends(weights: tuple[float, float], offset: float, reach: float) -> Tensor:
    """Return two points ``(2, 2)`` on the line w·p + b = 0, `reach` beyond its point that is nearest to the origin."""
    normal = torch.tensor(weights, dtype=torch.float64)
    nearest = -offset * normal / normal.dot(normal)  # to the centre
    along = torch.stack([-normal[1], normal[0]]) / normal.norm() * reach
    return torch.stack([nearest - along, nearest + along])
