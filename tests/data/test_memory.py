import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from backlit.data import PointsDataModule, TensorPairs


@given(st.integers(1, 30), st.integers(1, 4), st.lists(st.integers(0, 10_000), min_size=1, max_size=40))
def test_a_batch_is_its_samples(size: int, passes: int, indices: list[int]) -> None:
    data = TensorPairs(torch.arange(2 * size).reshape(size, 2), torch.arange(size), passes)
    indices = [index % len(data) for index in indices]
    inputs, targets = data.__getitems__(indices)
    singly = [data[index] for index in indices]
    assert torch.equal(inputs, torch.stack([x for x, _ in singly]))
    assert torch.equal(targets, torch.stack([y for _, y in singly]))


def test_uint8_stays_uint8() -> None:
    inputs, targets = TensorPairs(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3)).__getitems__([2, 0])
    assert inputs.dtype == torch.uint8
    assert inputs.shape == (2, 1, 4, 4)
    assert targets.tolist() == [2, 0]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_presents_every_sample_passes_times(num_workers: int) -> None:
    data = PointsDataModule(train_size=10, batch_size=4, passes_per_epoch=3, num_workers=num_workers)
    data.setup("fit")
    seen = torch.cat([inputs for inputs, _ in data.train_dataloader()])
    assert len(seen) == 30
    expected = data.train_set.inputs.repeat(3, 1)
    assert torch.equal(seen.sort(dim=0).values, expected.sort(dim=0).values)


def test_a_full_batch_keeps_the_order() -> None:
    data = PointsDataModule(train_size=10, passes_per_epoch=2)
    data.setup("fit")
    batches = [inputs for inputs, _ in data.train_dataloader()]
    assert len(batches) == 2
    assert all(torch.equal(batch, data.train_set.inputs) for batch in batches)
    batches[0].zero_()  # as a network that works in place would
    assert torch.equal(batches[1], data.train_set.inputs)
    assert data.train_set.inputs.any()


def test_the_order_is_seeded_and_changes_every_epoch() -> None:
    def orders(seed: int) -> list[torch.Tensor]:
        data = PointsDataModule(train_size=50, batch_size=50 - 1, passes_per_epoch=1, seed=seed)
        data.setup("fit")
        loader: DataLoader[tuple[torch.Tensor, torch.Tensor]] = data.train_dataloader()
        return [torch.cat([x for x, _ in loader]) for _ in range(2)]

    first, again = orders(1), orders(1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("argument", "value"),
    [("batch_size", 0), ("eval_batch_size", 0), ("passes_per_epoch", 0), ("num_workers", -1), ("seed", -1)],
)
def test_a_value_out_of_range_is_named(argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be >= \d, got {value}$"):
        PointsDataModule(**{argument: value})  # type: ignore[arg-type]
