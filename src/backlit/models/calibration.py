"""Calibration error: its bins, and an interval for it that covers the true value."""

import torch
from torch import Tensor

# Of the standard normal distribution: 95 % lie within.
_Z = 1.959964
_DRAWS = 10_000


def calibration_pairs(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the stated probability of each sample, and whether it came true (0 or 1): two tensors ``(n,)``.

    As in torchmetrics: of two classes it is the probability of class 1, of several that of the predicted class.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
    """
    if probabilities.ndim == 1:
        return probabilities, targets.to(probabilities.dtype)
    confidence, predicted = probabilities.max(1)
    return confidence, (predicted == targets).to(confidence.dtype)


def calibration_bins(probability: Tensor, bins: int) -> Tensor:
    """Return the bin of each probability, shape ``(n,)``, 0 to `bins`; as in torchmetrics, 1.0 has the last for itself.

    Args:
        probability: Shape ``(n,)``.
        bins: Number of bins of equal width.
    """
    # The edges have the dtype of the values, as in torchmetrics, so that none is between two roundings of an edge.
    return torch.bucketize(probability, torch.linspace(0, 1, bins + 1, dtype=probability.dtype), right=True) - 1


def calibration_interval(probabilities: Tensor, targets: Tensor, bins: int) -> tuple[float, float]:
    """Return a 95 % interval of the expected calibration error that holds at any calibration.

    The error is a sum of absolute values, which noise makes larger, and a bootstrap sample has the noise twice: its
    percentiles lie above the true value, and never cover an error of 0. Here

    - the measured sum is below the true one by no more than the sum of the signed deviations of the bins, which is
      normal: the upper end, widened as in Wilson's interval for a share, since a bin without errors has no variance;
    - it is above the true one by most if the true values of the bins are the least that they may be, three standard
      deviations below the measured ones or 0; how much is drawn from torch's global generator: the lower end.

    So the interval is too wide rather than too narrow: it covers the true value in 95 to 100 % of simulated cases.

    Args:
        probabilities: Shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        targets: Shape ``(n,)``.
        bins: Number of bins of equal width.
    """
    probability, outcome = calibration_pairs(probabilities, targets)
    index, count = calibration_bins(probability, bins), len(targets)
    probability, outcome = probability.double(), outcome.double()
    gap = outcome - probability
    gaps = torch.bincount(index, gap, bins + 1).abs() / count
    error = gaps.sum()
    # A bin whose few samples all came true still has the variance that their probabilities state.
    squares = torch.maximum(
        torch.bincount(index, gap**2, bins + 1), torch.bincount(index, probability * (1 - probability), bins + 1)
    )
    variance = squares / count**2
    most_below = _Z**2 / (2 * count) + _Z * (variance.sum() + _Z**2 / (4 * count**2)).sqrt()
    deviation = variance.sqrt()
    least = (gaps - 3 * deviation).clamp(min=0)
    noisy = least + torch.randn(_DRAWS, bins + 1, dtype=torch.float64) * deviation
    most_above = (noisy.abs() - least).sum(1).quantile(0.975)
    return max(0.0, (error - most_above).item()), min(1.0, (error + most_below).item())
