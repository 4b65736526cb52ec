"""A small convolutional network."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from backlit.arguments import FractionBelow1, PositiveInt
from backlit.models import Classifier
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


class SmallCNN(Classifier):
    """Two convolutions and a linear layer. Its arguments are the keys of conf/model/small_cnn.yaml.

    Args:
        num_classes: Number of classes.
        size: Width and height of an image, in pixels.
        channels: Of the first convolution; the second has twice as many.
        dropout: Probability that a feature is zeroed while training.
        optimizer: Makes the optimizer from the parameters; backlit passes what the group `optimizer` says.
        scheduler: Makes the scheduler; backlit passes what the group `scheduler` says.
    """

    def __init__(
        self,
        *,
        num_classes: PositiveInt = 10,
        size: PositiveInt = 28,
        channels: PositiveInt = 16,
        dropout: FractionBelow1 = 0.1,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * (size // 4) ** 2, num_classes),
        )
        scores = MetricCollection(
            {
                "acc": MulticlassAccuracy(num_classes, average="micro"),
                "f1": MulticlassF1Score(num_classes, average="macro"),
            }
        )
        super().__init__(net, scores, optimizer, scheduler)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits ``(b, num_classes)`` for labels ``(b,)``."""
        return F.cross_entropy(logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class, shape ``(b, num_classes)``."""
        return torch.softmax(logits, 1)
