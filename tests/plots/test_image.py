import io

import numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from backlit.plots.image import png, render, tile


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_tiles_are_the_images(count: int, columns: int, gap: int) -> None:
    images = torch.arange(count * 6, dtype=torch.float32).reshape(count, 2, 3)
    grid = tile(images, columns, gap)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = gap + row * (2 + gap), gap + column * (3 + gap)
        assert grid[top : top + 2, left : left + 3].tolist() == image.tolist()
    assert numpy.nansum(grid) == images.sum()
    assert numpy.isnan(grid[-gap:]).all()
    assert numpy.isnan(grid[:, -gap:]).all()


def test_a_png_file_has_the_pixels_of_the_figure() -> None:
    pixels = render(Figure(figsize=(2, 1), facecolor="#ff0000"))
    assert pixels.shape == (120, 240, 3)
    assert (pixels == [255, 0, 0]).all()
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert numpy.array_equal(numpy.asarray(image), pixels)
