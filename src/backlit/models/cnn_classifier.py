"""Classification of images into several classes."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, MinLen

from backlit.arguments import FractionBelow1, PositiveInt, check_arguments
from backlit.models.classifier import Compile
from backlit.models.cnn import CNN
from backlit.models.mlp import Activation
from backlit.models.multiclass import SoftmaxClassifier


class CNNClassifier(SoftmaxClassifier):
    """A `CNN` that distinguishes several classes of images, trained by cross-entropy.

    Args:
        input_shape: Shape ``(c, h, w)`` of an image; None, as `num_classes`, only in a config, where it means that of
            the data.
        num_classes: Number of classes, >= 2.
        channels: Number of channels after each convolution; each halves height and width.
        kernel_size: Height and width of every kernel, in pixels; odd.
        hidden_sizes: Width of each hidden layer after the convolutions.
        activation: Applied after every convolution and every hidden layer.
        dropout: Probability that an activation after the convolutions is zeroed while training.
        compile: Compile the network with `torch.compile`.
        optimizer: Creates the optimizer from the parameters.
        scheduler: Creates the scheduler from the optimizer and the number of steps.

    Raises:
        ValueError: If an argument is out of its range, or if the images are too small for so many halvings.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[PositiveInt] | None = (1, 28, 28),
        num_classes: Annotated[int, Ge(2)] | None = 10,
        channels: Annotated[Sequence[PositiveInt], MinLen(1)] = (16, 32),
        kernel_size: PositiveInt = 5,
        hidden_sizes: Sequence[PositiveInt] = (64,),
        activation: Activation = "relu",
        dropout: FractionBelow1 = 0.2,
        compile: Compile = False,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        check_arguments(CNNClassifier.__init__, locals())
        if input_shape is None or num_classes is None:
            raise ValueError("input_shape and num_classes must be given, since the data do not have them, got null")
        if len(input_shape) != 3:
            raise ValueError(f"input_shape must be one of images, (channels, height, width), got {tuple(input_shape)}")
        net = CNN(
            input_shape=input_shape,
            channels=channels,
            kernel_size=kernel_size,
            hidden_sizes=hidden_sizes,
            out_features=num_classes,
            activation=activation,
            dropout=dropout,
        )
        super().__init__(net, num_classes, optimizer, scheduler, compile)
        self.save_hyperparameters(ignore=["optimizer", "scheduler"], logger=False)
