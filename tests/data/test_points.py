import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backlit.data import PointsDataModule


def drawn(**arguments: object) -> PointsDataModule:
    data = PointsDataModule(**arguments)  # type: ignore[arg-type]
    data.setup("fit")
    return data


def test_the_defaults_are_the_points_of_the_reference_program() -> None:
    numpy.random.seed(0)
    points = numpy.random.rand(100, 2) * 2 - 1
    labels = (points[:, 0] + points[:, 1] > 0).astype(int)
    data = drawn()
    assert torch.equal(data.train_set.inputs, torch.from_numpy(points))
    assert torch.equal(data.prepare_inputs(data.train_set.inputs, torch.float32), torch.FloatTensor(points))
    assert torch.equal(data.train_set.targets, torch.from_numpy(labels))


def test_the_three_sets_share_no_point_and_have_their_sizes() -> None:
    data = drawn(train_size=100, val_size=200, test_size=300)
    assert data.val_set is not None
    sets = [data.train_set, data.val_set, data.test_set]
    assert [len(part.targets) for part in sets] == [100, 200, 300]
    points = {tuple(point) for part in sets for point in part.inputs.tolist()}
    assert len(points) == 600


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_size_of_a_set_changes_no_other_set_and_no_earlier_point_of_its_own(margin: float) -> None:
    noises = {"margin": margin, "label_noise": 0.3, "test_noise": 0.1, "seed": 5}
    one = drawn(train_size=50, val_size=20, test_size=40, **noises)
    for sizes in ((12_000, 20, 40), (50, 11_000, 40), (50, 20, 13_000), (12_000, 11_000, 13_000)):
        two = drawn(**dict(zip(("train_size", "val_size", "test_size"), sizes, strict=True)), **noises)
        for name in ("train_set", "val_set", "test_set"):
            first, second = getattr(one, name), getattr(two, name)
            assert torch.equal(first.inputs, second.inputs[: len(first)])
            assert torch.equal(first.targets, second.targets[: len(first)])


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.floats(-3, 3), st.floats(-3, 3)).filter(lambda w: abs(w[0]) + abs(w[1]) > 0.1),
    st.floats(-0.5, 0.5),
    st.floats(0, 0.3),
)
def test_labels_and_margin_follow_the_line(weights: tuple[float, float], offset: float, margin: float) -> None:
    norm = numpy.hypot(*weights)
    data = drawn(weights=weights, offset=offset * norm, margin=margin, val_size=10, test_size=10)
    points = data.train_set.inputs
    side = points @ torch.tensor(weights, dtype=torch.float64) + offset * norm
    far = side.abs() / norm > 1e-6
    assert torch.equal(data.train_set.targets[far], (side[far] > 0).long())
    assert (side.abs() / norm >= margin - 1e-6).all()
    assert points.abs().max() <= 1


def test_label_noise_flips_training_labels_only() -> None:
    clean, noisy = drawn(train_size=2000), drawn(train_size=2000, label_noise=0.2)
    assert torch.equal(clean.train_set.inputs, noisy.train_set.inputs)
    flipped = (clean.train_set.targets != noisy.train_set.targets).float().mean().item()
    assert 0.17 < flipped < 0.23
    assert torch.equal(clean.test_set.targets, noisy.test_set.targets)


def test_noise_moves_test_points_only() -> None:
    clean, noisy = drawn(), drawn(test_noise=0.2)
    assert torch.equal(clean.train_set.inputs, noisy.train_set.inputs)
    assert clean.val_set is not None
    assert noisy.val_set is not None
    assert torch.equal(clean.val_set.inputs, noisy.val_set.inputs)
    assert torch.equal(clean.test_set.targets, noisy.test_set.targets)
    moved = noisy.test_set.inputs - clean.test_set.inputs
    assert abs(moved.mean().item()) < 0.005
    assert [(moved.abs() < 0.2 * k).double().mean().item() for k in (1, 2)] == pytest.approx([0.683, 0.954], abs=0.01)


def test_without_validation_there_is_no_loader() -> None:
    data = drawn(val_size=0)
    assert data.val_set is None
    assert data.val_dataloader() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_size": 0}, "train_size must be >= 1 and <= 10000000, got 0"),
        ({"weights": [0, 0]}, "weights must be two numbers, not both 0, got"),
        ({"weights": [1]}, "weights must be a list of 2 float"),
        ({"test_noise": -1.0}, "test_noise must be >= 0 and <= 1000000, got -1"),
        ({"test_noise": math.nan}, "test_noise must be >= 0 and <= 1000000, got nan"),
        ({"label_noise": 0.6}, "label_noise must be >= 0 and <= 0.5, got 0.6"),
        ({"offset": math.inf}, "offset must be >= -1000000 and <= 1000000, got inf"),
        ({"seed": 2**32}, "seed must be >= 0 and < 4294967296"),
        ({"margin": 1.5}, "margin must be >= 0 and <= 1.344"),
        ({"margin": -0.1}, "margin must be >= 0"),
    ],
)
def test_a_value_out_of_range_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PointsDataModule(**arguments)  # type: ignore[arg-type]
