from typing import Any

import numpy
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from backlit.plots.grid import corners_around, grid_points
from backlit.plots.image import BLUE, ORANGE
from backlit.plots.predictions import draw_images, draw_points


def test_images_have_their_class_and_probability() -> None:
    figure = draw_images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), ["cat", "dog"], [0.934, 0.5], "2")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["cat (0.93)", "dog (0.50)"]
    assert figure.get_suptitle() == "2: class (probability)"


def test_rgb_images_are_drawn_in_their_colours() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 4, 4)
    shown = draw_images(red, ["a", "b"], [0.9, 0.5], "2").axes[0].images[0].get_array()
    assert shown is not None
    assert shown[2:6, 2:6].tolist() == [[[1, 0, 0]] * 4] * 4  # below and beside a gap of two white pixels
    assert (shown[:2] == 1).all()


def test_points_have_the_colour_of_their_class_over_the_probability_of_class_1() -> None:
    points = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    corners = corners_around(points)
    class_1 = (grid_points(corners, 10)[:, 0] > 0).double()
    grid = torch.stack([1 - class_1, class_1], 1)
    figure = draw_points(points, ["right", "left", "right"], grid, corners, class_1="right", title="3")
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert shown is not None
    assert shown[3].tolist() == [0] * 5 + [1] * 5
    scattered = [collection for collection in axes.collections if isinstance(collection, PathCollection)]
    places = {str(collection.get_label()): numpy.asarray(collection.get_offsets()).tolist() for collection in scattered}
    assert places == {"left: 1": [[-2, 0]], "right: 2": [[2, 0], [1, 1]]}
    colours: list[Any] = [numpy.asarray(collection.get_facecolor())[0] for collection in scattered]
    assert [to_hex(colour) for colour in colours] == [BLUE, ORANGE]


def test_several_classes_show_the_probability_of_the_likeliest_one() -> None:
    points = torch.zeros(1, 2, dtype=torch.float64)
    grid = torch.tensor([0.2, 0.3, 0.5]).repeat(16, 1)
    figure = draw_points(points, ["b"], grid, corners_around(points), class_1="b", title="1")
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert numpy.unique(shown).tolist() == [0.5]
