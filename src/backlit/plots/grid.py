"""The plane as a grid of points, at which a network is evaluated for the background of a picture."""

import torch
from torch import Tensor

Corners = tuple[tuple[float, float], tuple[float, float]]  # lower left, upper right


def corners_around(points: Tensor) -> Corners:
    """Return a rectangle that contains points ``(n, 2)``, with a margin, and the square from -1 to 1."""
    low, high = points.amin(0), points.amax(0)
    margin = 0.05 * (high - low)
    left, bottom = (low - margin).clamp(max=-1).tolist()
    right, top = (high + margin).clamp(min=1).tolist()
    return (left, bottom), (right, top)


def grid_points(corners: Corners, resolution: int = 200) -> Tensor:
    """Return points ``(resolution**2, 2)``, float64, in rows from the bottom to the top of a rectangle."""
    x, y = grid_ticks(corners, resolution)
    return torch.cartesian_prod(y, x).flip(1)


def grid_ticks(corners: Corners, resolution: int) -> tuple[Tensor, Tensor]:
    """Return the coordinates of the grid's columns and of its rows, float64, each of shape ``(resolution,)``."""
    (left, bottom), (right, top) = corners
    x, y = (torch.linspace(low, high, resolution, dtype=torch.float64) for low, high in ((left, right), (bottom, top)))
    return x, y
