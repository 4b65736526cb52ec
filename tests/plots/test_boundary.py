from typing import Any

import numpy
import torch
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from backlit.plots.boundary import SQUARE, draw_boundary
from backlit.plots.grid import grid_points

POINTS = torch.tensor([[0.5, 0.5], [-0.5, -0.5], [0.9, -0.9]], dtype=torch.float64)
LABELS = torch.tensor([1, 0, 0])


def draw(predicted: list[int]) -> Figure:
    x, y = grid_points(SQUARE, resolution=20).T
    probability = torch.sigmoid(9 * (x + 2 * y + 0.5))
    line: dict[str, Any] = {"weights": (1.0, 2.0), "offset": 0.5}
    return draw_boundary(probability, POINTS, LABELS, torch.tensor(predicted), kind="training", **line)


def test_the_dashed_line_is_the_true_one() -> None:
    x, y = (torch.as_tensor(part) for part in draw([1, 0, 0]).axes[0].lines[0].get_data())
    assert torch.allclose(x + 2 * y + 0.5, torch.zeros(2, dtype=torch.float64), atol=1e-9)
    assert torch.hypot(x, y).min() > 2**0.5  # both ends are outside the square


def test_the_field_has_its_first_row_at_the_bottom() -> None:
    (image,) = draw([1, 0, 0]).axes[0].images
    shown = image.get_array()
    assert shown is not None
    assert shown[0].max() < 0.5 < shown[-1].min()  # x + 2y + 0.5 at y = -1 and at y = 1
    assert image.origin == "lower"


def test_wrong_points_are_ringed() -> None:
    axes = draw([0, 0, 1]).axes[0]
    assert axes.get_title().startswith("1 of 3 training points right")
    rings = [collection for collection in axes.collections if isinstance(collection, PathCollection)][-1]
    assert numpy.asarray(rings.get_offsets()).tolist() == [[0.5, 0.5], [0.9, -0.9]]
