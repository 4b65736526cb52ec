"""The decision boundary in the plane."""

import math

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
    weights: tuple[float, float],
    offset: float,
) -> Figure:
    """Return a figure of the learned boundary, the training points and the true line.

    Args:
        grid_probabilities: Probabilities of class 1 on a grid over `SQUARE` (see `backlit.plots.grid`), shape
            ``(resolution**2,)``.
        points: The training points, shape ``(n, 2)``.
        labels: Their classes, shape ``(n,)``, 0 or 1.
        predicted: The predicted classes, shape ``(n,)``.
        weights: w of the true line w·p + b = 0.
        offset: b of the true line.
    """
    resolution = math.isqrt(len(grid_probabilities))
    field = grid_probabilities.reshape(resolution, resolution).numpy()
    x, y = grid_ticks(SQUARE, resolution)
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    shade = axes.imshow(field, origin="lower", extent=(-1, 1, -1, 1), cmap="RdBu_r", vmin=0, vmax=1, alpha=0.45)
    figure.colorbar(shade, label="probability of class 1", shrink=0.85)
    axes.contour(x.numpy(), y.numpy(), field, levels=[0.5], colors="black", linewidths=1.5)
    for label, colour in ((0, BLUE), (1, ORANGE)):
        chosen = points[labels == label].numpy()
        axes.scatter(chosen[:, 0], chosen[:, 1], s=22, color=colour, edgecolors="white", linewidths=0.6)
    wrong = points[predicted != labels].numpy()
    axes.scatter(wrong[:, 0], wrong[:, 1], s=90, facecolors="none", edgecolors="black", linewidths=1.2)
    ends = _line_ends(weights, offset).numpy()
    axes.plot(ends[:, 0], ends[:, 1], "--", color="black", linewidth=1)
    right = len(points) - len(wrong)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="x", ylabel="y", aspect="equal")
    axes.set_title(
        f"{right} of {len(points)} training points right\nsolid: learned (0.5), dashed: given, ringed: wrong"
    )
    return figure


def _line_ends(weights: tuple[float, float], offset: float) -> Tensor:
    """Return two points ``(2, 2)`` on the line w·p + b = 0, one beyond each side of the square."""
    normal = torch.tensor(weights, dtype=torch.float64)
    nearest = -offset * normal / normal.dot(normal)  # to the centre
    along = torch.stack([-normal[1], normal[0]]) / normal.norm() * 3
    return torch.stack([nearest - along, nearest + along])
