"""The multilayer perceptron."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from backlit.arguments import FractionBelow1, PositiveInt, check_arguments

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]
Initialization = Literal[
    "default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal"
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": nn.functional.leaky_relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
_INITIALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
}


class MLP(nn.Module):
    """Fully connected layers ``fc1``, ``fc2``, … with an activation between them and none after the last.

    Args:
        in_features: Size of a sample, all its dimensions multiplied.
        hidden_sizes: Width of each hidden layer; empty for a linear model.
        out_features: Number of outputs per sample.
        activation: Applied after every layer but the last.
        dropout: Probability that a hidden activation is zeroed while training, in [0, 1).
        initialization: Initialization of the weight matrices, with biases 0; ``default`` is that of `torch.nn.Linear`:
            weights and biases uniform in ±1/√in_features.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        in_features: PositiveInt,
        hidden_sizes: Sequence[PositiveInt],
        out_features: PositiveInt,
        activation: Activation = "relu",
        dropout: FractionBelow1 = 0.0,
        initialization: Initialization = "default",
    ) -> None:
        check_arguments(MLP.__init__, locals())
        super().__init__()
        sizes = [in_features, *hidden_sizes, out_features]
        self.sizes = sizes
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout
        for number, (width, next_width) in enumerate(itertools.pairwise(sizes), start=1):
            layer = nn.Linear(width, next_width)
            if initialization != "default":
                _INITIALIZATIONS[initialization](layer.weight)
                nn.init.zeros_(layer.bias)
            self.add_module(f"fc{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape ``(b, out_features)`` for `x` of shape ``(b, ...)``, flattened."""
        *hidden, last = self.children()
        x = torch.flatten(x, 1)
        for layer in hidden:
            x = self.activation(layer(x))
            if self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
        output: Tensor = last(x)
        return output

    def __str__(self) -> str:
        parameters = sum(p.numel() for p in self.parameters())
        return f"MLP {'-'.join(map(str, self.sizes))}, {parameters:,} parameters"
