"""Figures as pixels, pixels as PNG, many images as one."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

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


def draw_image(pixels: NDArray[numpy.float32], width: float, title: str, **colours: Any) -> tuple[Figure, Axes]:
    """Return a figure of an image under a title, as large as the two need, and its axes.

    Args:
        pixels: Shape ``(h, w)`` or ``(h, w, 3)``.
        width: The width of the image, in inches.
        title: Its lines are in the middle above the image.
        colours: How `Axes.imshow` shows the values.
    """
    height = width * pixels.shape[0] / pixels.shape[1]
    lines = title.split("\n")
    page = max(width, 0.3 + 0.08 * max(map(len, lines)))  # inches of a character of size 10, or more
    top = 0.1 + 0.18 * len(lines)
    figure = Figure(figsize=(page, top + height))
    axes = figure.add_axes(((page - width) / 2 / page, 0, width / page, height / (top + height)))
    axes.axis("off")
    axes.imshow(pixels, aspect="auto", **colours)
    figure.suptitle(title, y=1 - 0.05 / (top + height), size=10)
    return figure, axes


def draw_labelled_images(
    images: Tensor, labels: Sequence[str], title: str, *, columns: int, cell: float, size: float
) -> Figure:
    """Return a figure of images in rows, each below its label, under a title.

    Args:
        images: Shape ``(n, c, h, w)``, at least one, 0 to 255; 3 channels are RGB.
        labels: The label of each image, in one line or several.
        title: The title, in one line or several.
        columns: The number of images in a row.
        cell: The width of an image with the gap beside it, in inches.
        size: The size of the labels in points; those too long for a cell are smaller.
    """
    height, width = images.shape[-2:]
    lines = max(label.count("\n") + 1 for label in labels)
    over = (0.4 + 1.2 * lines) * size / 72  # inches that a label takes
    gap = max(2, math.ceil(over * width / (cell - over)))
    pixels = tile_images(images, columns, gap)
    figure, axes = draw_image(pixels, cell * pixels.shape[1] / (gap + width), title, cmap="gray_r", vmin=0, vmax=255)
    fits = cell * 72 / (0.62 * size)  # characters
    for place, label in enumerate(labels):
        row, column = divmod(place, columns)
        middle = gap + column * (gap + width) + width / 2 - 0.5
        bottom = gap + row * (gap + height) - 0.5 - 0.1 * gap
        smaller = size * min(1, fits / max(map(len, label.split("\n"))))
        axes.text(middle, bottom, plain(label), ha="center", va="bottom", size=smaller, linespacing=1)
    return figure


def tile_images(images: Tensor, columns: int, gap: int) -> NDArray[numpy.float32]:
    """Return images ``(n, c, h, w)`` from 0 to 255 as one, by `tile`: of RGB ``(height, width, 3)``, from 0 to 1."""
    if images.shape[1] != 3:
        return tile(images[:, 0].float(), columns, gap)
    pixels = numpy.stack([tile(channel.float(), columns, gap) for channel in images.unbind(1)], axis=-1)
    return numpy.where(numpy.isnan(pixels), numpy.float32(1), pixels / 255)


def tile(images: Tensor, columns: int, gap: int) -> NDArray[numpy.float32]:
    """Return images ``(n, h, w)`` as one, row by row, with `gap` blank pixels (nan) around each.

    matplotlib draws one tiled image in a tenth of the time of as many axes.
    """
    count, height, width = images.shape
    rows = math.ceil(count / columns)
    cells = torch.full((rows * columns, gap + height, gap + width), math.nan)
    cells[:count, gap:, gap:] = images
    grid = cells.reshape(rows, columns, gap + height, gap + width).transpose(1, 2)
    grid = grid.reshape(rows * (gap + height), columns * (gap + width))
    return nn.functional.pad(grid, (0, gap, 0, gap), value=math.nan).numpy()
