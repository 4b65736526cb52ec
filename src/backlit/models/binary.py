"""Classification into two classes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backlit.arguments import FractionBelow1, PositiveInt, check_arguments
from backlit.models.classifier import Classifier, Compile
from backlit.models.mlp import MLP, Activation, Initialization
from backlit.models.scores import binary_scores


class BinaryClassifier(Classifier):
    """An `MLP` with one output that distinguishes two classes, trained by binary cross-entropy on logits.

    Args:
        in_features: Size of a sample; None only in a config, where it means that of the data.
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
        in_features: PositiveInt | None = 2,
        hidden_sizes: Sequence[PositiveInt] = (4,),
        activation: Activation = "relu",
        dropout: FractionBelow1 = 0.0,
        initialization: Initialization = "default",
        compile: Compile = False,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        check_arguments(BinaryClassifier.__init__, locals())
        if in_features is None:
            raise ValueError("in_features must be given, since the data do not have it, got null")
        net = MLP(
            in_features=in_features,
            hidden_sizes=hidden_sizes,
            out_features=1,
            activation=activation,
            dropout=dropout,
            initialization=initialization,
        )
        super().__init__(net, binary_scores(), optimizer, scheduler, compile)
        self.save_hyperparameters(ignore=["optimizer", "scheduler"], logger=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of shape ``(b,)`` for inputs of shape ``(b, ...)``; > 0 means class 1."""
        logits: Tensor = self.net(inputs)
        return logits.squeeze(1)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean binary cross-entropy in nats of logits ``(b,)`` for labels ``(b,)``, 0 or 1."""
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of class 1, the sigmoid of logits ``(b,)``, same shape."""
        return logits.sigmoid()
