import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryCalibrationError

from backlit.models import BinaryClassifier
from backlit.models.intervals import bootstrap_intervals, class_metrics, scores_of


@pytest.mark.slow
def test_the_interval_of_the_accuracy_is_that_of_the_binomial_distribution() -> None:
    model = BinaryClassifier()
    right = torch.arange(1000) < 900
    targets = torch.arange(1000) % 2
    probabilities = torch.where(right, targets, 1 - targets) * 0.8 + 0.1
    torch.manual_seed(0)
    low, high = bootstrap_intervals(scores_of(model, probabilities), probabilities, targets, 400)["test/acc"]
    # A share of 0.9 among 1,000 has a standard error of sqrt(0.9 * 0.1 / 1000) = 0.0095.
    assert low == pytest.approx(0.9 - 1.96 * 0.0095, abs=0.003)
    assert high == pytest.approx(0.9 + 1.96 * 0.0095, abs=0.003)
    assert bootstrap_intervals(scores_of(model, probabilities), probabilities, targets, 0) == {}


def test_a_calibration_error_has_an_interval_of_its_own_or_none() -> None:
    model = BinaryClassifier()
    torch.manual_seed(0)
    probabilities, targets = torch.rand(500), torch.randint(2, (500,))
    assert "test/ece" in bootstrap_intervals(scores_of(model, probabilities), probabilities, targets, 5)
    scores = model.scores["test_"]
    assert isinstance(scores, MetricCollection)
    scores["ece"] = BinaryCalibrationError(norm="max")
    assert set(bootstrap_intervals(scores_of(model, probabilities), probabilities, targets, 5)) == {
        "test/acc",
        "test/f1",
        "test/auroc",
    }


def test_class_metrics_equal_a_count_by_hand() -> None:
    predicted = torch.tensor([0, 0, 1, 1, 1, 2])
    targets = torch.tensor([0, 1, 1, 1, 2, 2])
    rows = class_metrics(torch.nn.functional.one_hot(predicted).float(), targets, ["a", "b", "c"], 50)
    assert [row["samples"] for row in rows] == [1, 3, 2]
    assert [row["precision"] for row in rows] == pytest.approx([1 / 2, 2 / 3, 1])
    assert [row["recall"] for row in rows] == pytest.approx([1, 2 / 3, 1 / 2])
    assert [row["f1"] for row in rows] == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    for row in rows:
        low, high = row["recall_interval"]
        assert low <= row["recall"] <= high


def test_class_metrics_without_resamples_have_no_intervals() -> None:
    first, second = class_metrics(torch.tensor([0.9, 0.2, 0.6]), torch.tensor([1, 0, 0]), ["no", "yes"], 0)
    assert first == {"class": "no", "samples": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert second == {"class": "yes", "samples": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
