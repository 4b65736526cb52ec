"""The weights of a first layer that reads images."""

import math

from matplotlib.figure import Figure
from torch import Tensor

from backlit.plots.image import bare_axes, tile


def draw_first_layer(weights: Tensor, shape: tuple[int, ...], count: int = 64) -> Figure:
    """Return a figure of the first layer's weights: red where a bright pixel excites the unit, blue where it inhibits.

    Args:
        weights: Shape ``(hidden, h * w)``; the units with the largest norm are shown.
        shape: ``(h, w)``.
        count: Maximum number of units.
    """
    strongest = weights.norm(dim=1).argsort(descending=True)[:count]
    limit = float(weights[strongest].abs().quantile(0.995))
    figure, axes = bare_axes(7.5, 7.9)
    axes.set_title(f"First layer: {len(strongest)} of {len(weights)} units by weight norm, ±{limit:.2g}")
    images = weights[strongest].reshape(-1, *shape)
    columns = math.ceil(math.sqrt(len(strongest)))
    axes.imshow(tile(images, columns, gap=2), cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure
