import numpy
import pytest
import torch
from torch import nn

from backlit.plots.first_layer import draw_first_layer, first_layer_images


def test_the_first_layer_is_shown_strongest_first() -> None:
    weights = torch.zeros(5, 1, 2, 2)
    weights[3] = 2.0
    weights[1] = 1.0
    figure = draw_first_layer(weights, count=2)
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    values = shown[~numpy.isnan(shown)]
    assert values.tolist() == [2, 2, 1, 1, 2, 2, 1, 1]  # two tiles of 2 x 2 beside each other, row by row


def test_kernels_that_read_rgb_are_drawn_in_colours() -> None:
    weights = torch.zeros(1, 3, 2, 2)
    weights[0, 0, 0, 0], weights[0, 2, 1, 1] = 1.0, -1.0
    shown = draw_first_layer(weights).axes[0].images[0].get_array()
    assert shown is not None
    assert shown.shape == (4, 4, 3)  # a gap of one pixel around it
    assert shown[1:3, 1:3].round(2).tolist() == [[[1, 0.5, 0.5], [0.5, 0.5, 0.5]], [[0.5, 0.5, 0.5], [0.5, 0.5, 0]]]
    assert (shown[0] == 1).all()


@pytest.mark.parametrize(
    ("net", "shape", "expected"),
    [
        (nn.Linear(12, 5), (1, 3, 4), (5, 1, 3, 4)),
        (nn.Linear(12, 5), (3, 2, 2), (5, 3, 2, 2)),
        (nn.Linear(13, 5), (3, 2, 2), None),
        (nn.Conv2d(3, 6, 5), (3, 9, 9), (6, 3, 5, 5)),
        (nn.Conv2d(1, 6, 1), (1, 9, 9), None),
        (nn.Conv2d(2, 6, 5), (2, 9, 9), None),
        (nn.ReLU(), (1, 9, 9), None),
    ],
)
def test_the_first_layer_is_images_if_it_reads_images(
    net: nn.Module, shape: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    images = first_layer_images(net, shape)
    assert (None if images is None else tuple(images.shape)) == expected
