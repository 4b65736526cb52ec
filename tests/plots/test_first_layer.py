import numpy
import torch

from backlit.plots.first_layer import draw_first_layer


def test_the_first_layer_is_shown_strongest_first() -> None:
    weights = torch.zeros(5, 4)
    weights[3] = 2.0
    weights[1] = 1.0
    figure = draw_first_layer(weights, (2, 2), count=2)
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    values = shown[~numpy.isnan(shown)]
    assert values.tolist() == [2, 2, 1, 1, 2, 2, 1, 1]  # two tiles of 2 x 2 beside each other, row by row
