import pytest
import torch

from backlit.models import MLP
from tests.helpers.networks import SimpleNN


def test_the_default_network_equals_the_reference_network() -> None:
    torch.manual_seed(3)
    reference = SimpleNN()
    torch.manual_seed(3)
    net = MLP(in_features=784, hidden_sizes=[128, 64], out_features=10)
    images = torch.rand(5, 1, 28, 28)
    assert torch.equal(net(images), reference(images))
    reference.load_state_dict(net.state_dict())


def test_forward_pass_equals_a_computation_by_hand() -> None:
    net = MLP(in_features=2, hidden_sizes=[2], out_features=1)
    net.load_state_dict(
        {
            "fc1.weight": torch.tensor([[1.0, -1.0], [2.0, 0.5]]),
            "fc1.bias": torch.tensor([0.5, -1.0]),
            "fc2.weight": torch.tensor([[3.0, -2.0]]),
            "fc2.bias": torch.tensor([0.25]),
        }
    )
    # hidden: relu(1 - 2 + 0.5) = 0, relu(2 + 1 - 1) = 2; output: 3·0 - 2·2 + 0.25
    assert net(torch.tensor([[1.0, 2.0]])).item() == -3.75


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"])
def test_gradients_reach_every_layer(activation: str) -> None:
    torch.manual_seed(0)
    net = MLP(in_features=6, hidden_sizes=[5, 4, 3], out_features=2, activation=activation)  # type: ignore[arg-type]
    net(torch.randn(20, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_no_hidden_layer_is_a_linear_model() -> None:
    assert [name for name, _ in MLP(in_features=3, hidden_sizes=[], out_features=2).named_parameters()] == [
        "fc1.weight",
        "fc1.bias",
    ]


def test_dropout_acts_only_in_training() -> None:
    torch.manual_seed(0)
    net = MLP(in_features=4, hidden_sizes=[50], out_features=1, dropout=0.5)
    x = torch.randn(8, 4)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(
    ("initialization", "deviation"),
    # Glorot and Bengio 2010: variance 2 / (in + out); He et al. 2015: 2 / in.
    [("xavier_uniform", (2 / 600) ** 0.5), ("xavier_normal", (2 / 600) ** 0.5), ("kaiming_normal", (2 / 400) ** 0.5)],
)
def test_initialization_has_the_published_spread(initialization: str, deviation: float) -> None:
    torch.manual_seed(0)
    net = MLP(in_features=400, hidden_sizes=[200], out_features=1, initialization=initialization)  # type: ignore[arg-type]
    weight, bias = net.get_parameter("fc1.weight"), net.get_parameter("fc1.bias")
    assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert not bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_sizes": [0]}, r"hidden_sizes\[0\] must be >= 1, got 0"),
        ({"dropout": 1.0}, "dropout must be >= 0 and < 1, got 1.0"),
        ({"activation": "swish"}, "activation must be one of relu, .*, got 'swish'"),
        ({"initialization": "ones"}, "initialization must be one of default, .*, got 'ones'"),
    ],
)
def test_a_value_out_of_range_is_rejected_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**{"in_features": 2, "hidden_sizes": [2], "out_features": 2} | arguments)  # type: ignore[arg-type]


def test_its_text_gives_layer_sizes_and_parameters() -> None:
    assert str(MLP(in_features=784, hidden_sizes=[128, 64], out_features=10)) == "MLP 784-128-64-10, 109,386 parameters"
