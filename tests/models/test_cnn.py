import re

import pytest
import torch
from torch.nn import functional

from backlit.models import CNN, CNNClassifier


def test_forward_pass_equals_functions_of_torch() -> None:
    torch.manual_seed(0)
    net = CNN(input_shape=(3, 17, 24), channels=[4, 5], kernel_size=3, hidden_sizes=[6], out_features=2)
    images, weights = torch.randn(7, 3, 17, 24), net.state_dict()
    x = functional.conv2d(images, weights["conv1.weight"], weights["conv1.bias"], padding=1).relu()
    x = functional.conv2d(functional.max_pool2d(x, 2), weights["conv2.weight"], weights["conv2.bias"], padding=1).relu()
    x = functional.max_pool2d(x, 2).flatten(1)  # (7, 5, 4, 6)
    hidden = functional.linear(x, weights["head.fc1.weight"], weights["head.fc1.bias"]).relu()
    logits = functional.linear(hidden, weights["head.fc2.weight"], weights["head.fc2.bias"])
    assert torch.allclose(net(images), logits, atol=1e-6)
    assert str(net) == f"CNN 3-4-5 channels, then 120-6-2, {sum(w.numel() for w in weights.values()):,} parameters"


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 4, 9)])
def test_any_images_and_kernels_give_one_row_of_logits_per_image(shape: tuple[int, int, int], kernel_size: int) -> None:
    net = CNN(input_shape=shape, channels=[2, 3], kernel_size=kernel_size, out_features=4)
    assert net(torch.rand(5, *shape)).shape == (5, 4)


def test_dropout_acts_only_in_training() -> None:
    torch.manual_seed(0)
    net = CNN(input_shape=(1, 8, 8), channels=[8], out_features=2, dropout=0.5)
    images = torch.rand(4, 1, 8, 8)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": [4, 4, 4]}, "channels must be at most 2 numbers for images of 4 x 9 pixels, which each of them"),
        ({"channels": []}, "channels must"),
        ({"input_shape": [4, 9]}, "input_shape must be one of images, (channels, height, width), got (4, 9)"),
        ({"kernel_size": 4}, "kernel_size must be odd, so that a kernel has a centre, got 4"),
        ({"kernel_size": 0}, "kernel_size must be >= 1, got 0"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"num_classes": 1}, "num_classes must"),
        ({"num_classes": None}, "input_shape and num_classes must be given, since the data do not have them"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CNNClassifier(**({"input_shape": [1, 4, 9], "channels": [2]} | arguments))  # type: ignore[arg-type]
