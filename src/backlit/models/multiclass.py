"""Classification into several classes."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from backlit.arguments import FractionBelow1, PositiveInt, check_arguments
from backlit.models.classifier import Classifier, Compile
from backlit.models.mlp import MLP, Activation, Initialization
from backlit.models.scores import multiclass_scores


class SoftmaxClassifier(Classifier):
    """Any network that distinguishes several classes, trained by cross-entropy.

    Args:
        net: Maps ``(b, ...)`` to logits ``(b, num_classes)``.
        num_classes: Number of classes, >= 2.
        optimizer: Creates the optimizer from the parameters.
        scheduler: Creates the scheduler from the optimizer and the number of steps.
        compile: Compile the network with `torch.compile`.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
        compile: Compile = False,
    ) -> None:
        super().__init__(net, multiclass_scores(num_classes), optimizer, scheduler, compile)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of logits ``(b, num_classes)`` for labels ``(b,)``, int64."""
        return F.cross_entropy(logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax of logits ``(b, num_classes)``, same shape."""
        return logits.softmax(dim=1)


class MulticlassClassifier(SoftmaxClassifier):
    """An `MLP` that distinguishes several classes, trained by cross-entropy.

    Args:
        in_features: Size of a sample; None, as `num_classes`, only in a config, where it means that of the data.
        num_classes: Number of classes, >= 2.
        hidden_sizes: Width of each hidden layer.
        activation: Applied after every hidden layer.
        dropout: Probability that a hidden activation is zeroed while training.
        initialization: Initialization of the weights.
        compile: Compile the network with `torch.compile`.
        optimizer: Creates the optimizer from the parameters.
        scheduler: Creates the scheduler from the optimizer and the number of steps.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        in_features: PositiveInt | None = 784,
        num_classes: Annotated[int, Ge(2)] | None = 10,
        hidden_sizes: Sequence[PositiveInt] = (128, 64),
        activation: Activation = "relu",
        dropout: FractionBelow1 = 0.0,
        initialization: Initialization = "default",
        compile: Compile = False,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        check_arguments(MulticlassClassifier.__init__, locals())
        if in_features is None or num_classes is None:
            raise ValueError("in_features and num_classes must be given, since the data do not have them, got null")
        net = MLP(
            in_features=in_features,
            hidden_sizes=hidden_sizes,
            out_features=num_classes,
            activation=activation,
            dropout=dropout,
            initialization=initialization,
        )
        super().__init__(net, num_classes, optimizer, scheduler, compile)
        self.save_hyperparameters(ignore=["optimizer", "scheduler"], logger=False)
