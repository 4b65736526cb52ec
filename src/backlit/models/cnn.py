"""A small convolutional network."""

import math
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Len, MinLen
from torch import Tensor, nn
from torch.nn import functional

from backlit.arguments import FractionBelow1, PositiveInt, check_arguments
from backlit.models.mlp import ACTIVATIONS, MLP, Activation


class CNN(nn.Module):
    """Convolutions ``conv1``, ``conv2``, …, then an `MLP`, ``head``.

    Each convolution keeps the height and width, and is followed by the activation and by a maximum over 2 × 2 pixels,
    as in LeNet-5 (LeCun et al. 1998, Gradient-based learning applied to document recognition).

    Args:
        input_shape: Shape ``(c, h, w)`` of an image.
        channels: Number of channels after each convolution.
        kernel_size: Height and width of every kernel, in pixels; odd.
        hidden_sizes: Width of each hidden layer of the `MLP`.
        out_features: Number of outputs per image.
        activation: Applied after every convolution and every hidden layer.
        dropout: Probability that a hidden activation of the `MLP`, or one that it reads, is zeroed while training.

    Raises:
        ValueError: If an argument is out of its range, or if the images are too small for so many halvings.
    """

    def __init__(
        self,
        *,
        input_shape: Annotated[Sequence[PositiveInt], Len(3, 3)],
        channels: Annotated[Sequence[PositiveInt], MinLen(1)],
        kernel_size: PositiveInt = 5,
        hidden_sizes: Sequence[PositiveInt] = (),
        out_features: PositiveInt,
        activation: Activation = "relu",
        dropout: FractionBelow1 = 0.0,
    ) -> None:
        check_arguments(CNN.__init__, locals())
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that a kernel has a centre, got {kernel_size}")
        depth, height, width = input_shape
        most = int(math.log2(min(height, width)))
        if len(channels) > most:
            rule = f"at most {most} numbers for images of {height} x {width} pixels, which each of them halves"
            raise ValueError(f"channels must be {rule}, got {list(channels)}")
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout
        for number, next_depth in enumerate(channels, start=1):
            layer = nn.Conv2d(depth, next_depth, kernel_size, padding=kernel_size // 2)
            self.add_module(f"conv{number}", layer)
            depth, height, width = next_depth, height // 2, width // 2
        self.head = MLP(
            in_features=depth * height * width,
            hidden_sizes=hidden_sizes,
            out_features=out_features,
            activation=activation,
            dropout=dropout,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape ``(b, out_features)`` for images of shape ``(b, c, h, w)``."""
        *convolutions, head = self.children()
        for layer in convolutions:
            x = functional.max_pool2d(self.activation(layer(x)), 2)
        if self.dropout:
            x = functional.dropout(x, self.dropout, self.training)
        output: Tensor = head(x)
        return output

    def __str__(self) -> str:
        parameters = sum(p.numel() for p in self.parameters())
        kernels = [layer for layer in self.children() if isinstance(layer, nn.Conv2d)]
        depths = "-".join(map(str, [kernels[0].in_channels, *(layer.out_channels for layer in kernels)]))
        return f"CNN {depths} channels, then {'-'.join(map(str, self.head.sizes))}, {parameters:,} parameters"
