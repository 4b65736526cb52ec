"""The interval of the calibration error: how often it covers a known truth."""

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error

from backlit.models.calibration import calibration_interval

SLOPES = {"calibrated": 1.0, "overconfident": 0.6, "underconfident": 1.8, "nearly calibrated": 0.95}


def draw_samples(count: int, spread: float, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return stated probabilities of class 1, targets, and the true probabilities."""
    logits = torch.randn(count) * spread + 1
    true = (logits * slope).sigmoid()
    return logits.sigmoid(), (torch.rand(count) < true).long(), true


def true_error(spread: float, slope: float) -> float:
    """Return the calibration error of a million samples, whose outcomes are replaced by their probabilities."""
    if slope == 1:
        return 0.0
    stated, _, true = draw_samples(1_000_000, spread, slope)
    index = (stated * 15).long()
    gaps = torch.bincount(index, (true - stated).double(), 16)
    return gaps.abs().sum().item() / 1_000_000


@pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES)
@pytest.mark.parametrize(("count", "spread"), [(200, 2.0), (2000, 5.0)])
def test_the_interval_covers_the_true_error(slope: float, count: int, spread: float) -> None:
    torch.manual_seed(0)
    truth = true_error(spread, slope)
    covered = 0
    for _ in range(60):
        stated, targets, _ = draw_samples(count, spread, slope)
        low, high = calibration_interval(stated, targets, 15)
        assert 0 <= low < float(binary_calibration_error(stated, targets, 15)) < high <= 1
        covered += low <= truth <= high
    assert covered >= 55  # of 60: fewer have a probability of 1 % at a coverage of 95 %


def test_the_interval_of_many_samples_is_narrow() -> None:
    torch.manual_seed(0)
    stated, targets, _ = draw_samples(100_000, 2.0, 0.6)
    low, high = calibration_interval(stated, targets, 15)
    assert high - low < 0.01
    assert low < true_error(2.0, 0.6) < high


def test_without_a_mistake_the_interval_allows_the_error_that_so_few_samples_hide() -> None:
    """Sure to 0.99999 and never wrong in 1,000: an error rate of 0.3 % is hidden with a probability of 5 %."""
    torch.manual_seed(0)
    low, high = calibration_interval(torch.full((1000,), 0.99999), torch.ones(1000, dtype=torch.long), 15)
    assert low == 0
    assert 0.003 < high < 0.006
