"""The weights of a first layer that reads images."""

import math

from matplotlib.figure import Figure
from torch import Tensor, nn

from backlit.plots.image import draw_image, tile, tile_images


def first_layer_images(net: nn.Module, shape: tuple[int, ...]) -> Tensor | None:
    """Return the weights of the first layer as images ``(units, c, h, w)``; None if they are no images.

    Of a linear layer a unit has the size of the images that it reads; of a convolution, that of its kernel.

    Args:
        net: The network.
        shape: Shape ``(c, h, w)`` of the images that it reads.
    """
    first = next((parameter.detach().float().cpu() for parameter in net.parameters() if parameter.ndim >= 2), None)
    if first is None or shape[0] not in (1, 3):
        return None
    if first.ndim == 2 and first.shape[1] == math.prod(shape):
        return first.reshape(-1, *shape)
    return first if first.ndim == 4 and first.shape[1] == shape[0] and first[0, 0].numel() > 1 else None


def draw_first_layer(weights: Tensor, count: int = 64) -> Figure:
    """Return a figure of the first layer's weights.

    Of one channel: red where a bright pixel excites the unit, blue where it inhibits. Of RGB: the colours that excite
    it most, grey for 0.

    Args:
        weights: Shape ``(units, c, h, w)`` of 1 or 3 channels; the units with the largest norm are shown.
        count: Maximum number of units.
    """
    strongest = weights.flatten(1).norm(dim=1).argsort(descending=True)[:count]
    limit = float(weights[strongest].abs().quantile(0.995))
    title = f"First layer: {len(strongest)} of {len(weights)} units by weight norm, ±{limit:.2g}"
    images, columns = weights[strongest], math.ceil(math.sqrt(len(strongest)))
    gap, width = 2 if min(images.shape[-2:]) > 8 else 1, min(7.5, 1.9 * columns)
    if images.shape[1] == 3:
        return draw_image(tile_images(((images / limit + 1) * 127.5).clamp(0, 255), columns, gap), width, title)[0]
    return draw_image(tile(images[:, 0], columns, gap), width, title, cmap="RdBu_r", vmin=-limit, vmax=limit)[0]
