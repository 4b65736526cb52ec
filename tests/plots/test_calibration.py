import re
from typing import Any

import numpy
import pytest
import torch
from matplotlib.figure import Figure
from torchmetrics import Metric
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

from backlit.models.calibration import calibration_pairs
from backlit.plots.calibration import draw_calibration, draw_roc

# Sure to 0.9 and right in 3 of 4; sure to 0.6 and right in 1 of 2.
CLASS_1 = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
TARGETS = torch.tensor([1, 1, 1, 0, 1, 0])


def last_line(figure: Figure) -> list[tuple[float, float]]:
    points: Any = figure.axes[0].lines[-1].get_xydata()
    return [(round(float(x), 6), round(float(y), 6)) for x, y in points]


def test_calibration_of_two_classes_is_how_often_class_1_occurs_at_each_probability() -> None:
    figure = draw_calibration(
        torch.cat([CLASS_1, torch.tensor([0.1, 0.1])]), torch.cat([TARGETS, torch.tensor([1, 0])])
    )
    assert last_line(figure) == [(0.1, 0.5), (0.6, 0.5), (0.9, 0.75)]
    assert figure.axes[1].get_xlabel() == "probability of class 1"
    assert figure.axes[1].get_ylim()[0] == 0.5  # so that a bar of one sample is seen


def test_calibration_of_several_classes_is_the_accuracy_at_each_confidence() -> None:
    figure = draw_calibration(torch.stack([1 - CLASS_1, CLASS_1], 1), TARGETS)
    assert last_line(figure) == [(0.6, 0.5), (0.9, 0.75)]
    assert figure.axes[1].get_xlabel() == "probability of the predicted class"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_picture_shows_the_bins_of_the_metric_in_its_title(classes: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    targets = torch.randint(max(classes, 2), (3000,))
    logits = torch.randn(3000, classes, dtype=dtype)
    logits[:50] *= 100  # probabilities of exactly 0 and 1
    metric: Metric
    if classes == 1:
        probabilities, metric = logits[:, 0].sigmoid(), BinaryCalibrationError(n_bins=15)
        probabilities[50:80] = 0.2  # on an edge
    else:
        probabilities, metric = logits.softmax(1), MulticlassCalibrationError(3, n_bins=15)
    figure = draw_calibration(probabilities, targets)
    expected = float(metric(probabilities, targets))
    (written,) = re.findall(r"ECE (0\.\d{6})", figure.axes[0].get_title())
    assert float(written) == pytest.approx(expected, abs=1e-6)
    # The same from what is drawn: a point a bin, in their order, and the histogram's heights.
    heights: Any = [patch.get_height() for patch in figure.axes[1].patches]  # type: ignore[attr-defined]
    sure = int(calibration_pairs(probabilities, targets)[0].eq(1).sum())
    counts = numpy.array([*heights[:-1], heights[-1] - sure, sure])
    points: Any = figure.axes[0].lines[-1].get_xydata()
    drawn = (counts[counts > 0] / 3000) @ numpy.abs(points[:, 0] - points[:, 1])
    assert drawn == pytest.approx(expected, abs=1e-6)


def test_two_classes_have_one_roc_curve() -> None:
    figure = draw_roc(CLASS_1, TARGETS, ["no", "yes"])
    assert last_line(figure) == [(0, 0), (0.5, 0.75), (1, 1)]
    assert [line.get_label() for line in figure.axes[0].lines] == ["yes"]


def test_several_classes_have_a_roc_curve_each_if_they_occur() -> None:
    figure = draw_roc(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 1]), ["a", "b", "c"])
    assert [line.get_label() for line in figure.axes[0].lines] == ["a", "b"]
