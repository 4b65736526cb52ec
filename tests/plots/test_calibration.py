from typing import Any

import torch
from matplotlib.figure import Figure

from backlit.plots.calibration import draw_calibration, draw_roc

# Sure to 0.9 and right in 3 of 4; sure to 0.6 and right in 1 of 2.
CLASS_1 = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
TARGETS = torch.tensor([1, 1, 1, 0, 1, 0])


def last_line(figure: Figure) -> list[tuple[float, float]]:
    points: Any = figure.axes[0].lines[-1].get_xydata()
    return [(round(float(x), 6), round(float(y), 6)) for x, y in points]


def test_calibration_is_the_accuracy_at_each_confidence() -> None:
    figure = draw_calibration(torch.stack([1 - CLASS_1, CLASS_1], 1), TARGETS)
    assert last_line(figure) == [(0.6, 0.5), (0.9, 0.75)]


def test_two_classes_have_one_roc_curve() -> None:
    figure = draw_roc(CLASS_1, TARGETS, ["no", "yes"])
    assert last_line(figure) == [(0, 0), (0.5, 0.75), (1, 1)]
    assert [line.get_label() for line in figure.axes[0].lines] == ["yes"]


def test_several_classes_have_a_roc_curve_each_if_they_occur() -> None:
    figure = draw_roc(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 1]), ["a", "b", "c"])
    assert [line.get_label() for line in figure.axes[0].lines] == ["a", "b"]
