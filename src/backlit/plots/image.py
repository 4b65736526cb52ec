"""Figures as pixels, pixels as PNG, many images as one."""

import io
import math
from pathlib import Path

import numpy
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

# One colour per class of points; colour-blind readers can distinguish them.
BLUE, ORANGE = "#2166ac", "#d6604d"


def render(figure: Figure) -> NDArray[numpy.uint8]:
    """Return a figure as an image of shape ``(height, width, 3)``. Rendering is slow: do it once for all uses."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[no-untyped-call]


def png(pixels: NDArray[numpy.uint8]) -> bytes:
    """Return an image of shape ``(height, width, 3)`` as the content of a PNG file, which `is_own_png` recognizes."""
    file, notes = io.BytesIO(), PngInfo()
    notes.add_text("Software", "backlit")
    Image.fromarray(pixels).save(file, format="png", compress_level=3, pnginfo=notes)
    return file.getvalue()


def is_own_png(path: Path) -> bool:
    """Return whether a file is a PNG that `png` has made; False if it cannot be read."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(200)  # the notes come before the pixels
    except OSError:
        return False
    return start.startswith(b"\x89PNG") and b"tEXtSoftware\0backlit" in start


def plain(text: str) -> str:
    """Return a text as matplotlib draws it literally, which takes what is between two dollar signs for a formula."""
    return text.replace("$", r"\$")


def bare_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure, its size in inches, and axes that fill it, with only a title."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.94))
    axes.axis("off")
    return figure, axes


def show_images(axes: Axes, images: Tensor, columns: int, gap: int) -> None:
    """Draw images ``(n, c, h, w)`` from 0 to 255 as one, by `tile`: RGB in colours, one channel as ink on paper."""
    if images.shape[1] == 3:
        pixels = numpy.stack([tile(channel.float(), columns, gap) for channel in images.unbind(1)], axis=-1)
        axes.imshow(numpy.nan_to_num(pixels / 255, nan=1.0))
    else:
        axes.imshow(tile(images[:, 0].float(), columns, gap), cmap="gray_r", vmin=0, vmax=255)


def tile(images: Tensor, columns: int, gap: int) -> NDArray[numpy.float32]:
    """Return images ``(n, h, w)`` as one, row by row, each with `gap` blank pixels (nan) above and to the left.

    matplotlib draws one tiled image in a tenth of the time of as many axes.
    """
    count, height, width = images.shape
    rows = math.ceil(count / columns)
    cells = torch.full((rows * columns, gap + height, gap + width), math.nan)
    cells[:count, gap:, gap:] = images
    grid = cells.reshape(rows, columns, gap + height, gap + width).transpose(1, 2)
    return grid.reshape(rows * (gap + height), columns * (gap + width)).numpy()
