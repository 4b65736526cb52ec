import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backlit.data import PointsDataModule, TensorPairs
from backlit.data.loader import BatchLoader
from backlit.data.seeds import mix_seeds


@given(st.integers(1, 30), st.lists(st.integers(0, 10_000), min_size=1, max_size=40))
def test_a_batch_is_its_samples(size: int, indices: list[int]) -> None:
    data = TensorPairs(torch.arange(2 * size).reshape(size, 2), torch.arange(size))
    indices = [index % len(data) for index in indices]
    inputs, targets = data.__getitems__(torch.tensor(indices))
    singly = [data[index] for index in indices]
    assert torch.equal(inputs, torch.stack([x for x, _ in singly]))
    assert torch.equal(targets, torch.stack([y for _, y in singly]))


def test_uint8_stays_uint8() -> None:
    inputs, targets = TensorPairs(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3)).__getitems__(
        torch.tensor([2, 0])
    )
    assert inputs.dtype == torch.uint8
    assert inputs.shape == (2, 1, 4, 4)
    assert targets.tolist() == [2, 0]


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.process)])
def test_an_epoch_presents_every_sample_passes_times(num_workers: int) -> None:
    data = PointsDataModule(train_size=10, batch_size=4, passes_per_epoch=3, num_workers=num_workers)
    data.setup("fit")
    seen = torch.cat([inputs for inputs, _ in data.train_dataloader()])
    assert len(seen) == 30
    expected = data.train_set.inputs.repeat(3, 1)
    assert torch.equal(seen.sort(dim=0).values, expected.sort(dim=0).values)


@pytest.mark.parametrize("world_size", [1, 2])
def test_each_pass_presents_every_sample_once(world_size: int) -> None:
    loaders = [
        BatchLoader(pairs(100), 50, train=True, shuffle=True, passes=4, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [torch.cat([targets for _, targets in parts]) for parts in zip(*loaders, strict=True)]
    passes = [torch.cat(batches[i : i + 2]).tolist() for i in range(0, 8, 2)]
    assert all(sorted(seen) == list(range(100)) for seen in passes)
    assert len({tuple(seen) for seen in passes}) == 4


def test_one_pass_is_the_permutation_of_seed_and_epoch() -> None:
    loader = BatchLoader(pairs(30), 7, train=True, shuffle=True, seed=3, epoch=lambda: 2)
    expected = torch.randperm(30, generator=torch.Generator().manual_seed(mix_seeds(3, 2)))
    assert torch.equal(torch.cat([targets for _, targets in loader]), expected)


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
        loader = data.train_dataloader()
        return [torch.cat([x for x, _ in loader]) for _ in range(2)]

    first, repeated = orders(1), orders(1)
    assert torch.equal(first[0], repeated[0])
    assert torch.equal(first[1], repeated[1])
    assert not torch.equal(first[0], first[1])


def pairs(size: int) -> TensorPairs:
    return TensorPairs(torch.arange(size), torch.arange(size))


@given(size=st.integers(1, 60), per_process=st.integers(1, 9), world_size=st.integers(1, 5), passes=st.integers(1, 3))
def test_processes_together_see_the_batches_of_a_single_process(
    size: int, per_process: int, world_size: int, passes: int
) -> None:
    size, batch_size = max(size, world_size), per_process * world_size

    def loader(**processes: int) -> BatchLoader:
        return BatchLoader(
            pairs(size),
            batch_size,
            train=True,
            shuffle=True,
            passes=passes,
            seed=3,
            **processes,  # type: ignore[arg-type]
        )

    alone = list(loader())
    loaders = [loader(rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(each) for each in loaders} == {len(alone)}
    for batch_idx, (parts, whole) in enumerate(zip(zip(*loaders, strict=True), alone, strict=True)):
        weights = [each.weight(batch_idx) for each in loaders]
        assert sum(weights) == pytest.approx(world_size)
        seen = torch.cat([targets for (_, targets), weight in zip(parts, weights, strict=True) if weight])
        assert sorted(seen.tolist()) == sorted(whole[1].tolist())
        # The weighted mean over the processes of their own means.
        means = [weight * inputs.double().mean() for (inputs, _), weight in zip(parts, weights, strict=True)]
        assert float(sum(means)) / world_size == pytest.approx(float(whole[0].double().mean()))


@given(size=st.integers(1, 60), batch_size=st.integers(1, 20), world_size=st.integers(1, 5))
def test_in_evaluation_each_sample_counts_once(size: int, batch_size: int, world_size: int) -> None:
    size = max(size, world_size)
    loaders = [BatchLoader(pairs(size), batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [[targets for _, targets in each] for each in loaders]
    assert sorted(torch.cat([targets for part in parts for targets in part]).tolist()) == list(range(size))
    assert {len(each) for each in parts} == {len(loaders[0])}
    assert all(len(targets) for part in parts for targets in part)


def test_a_loader_resumes_where_its_state_says() -> None:
    def loader() -> BatchLoader:
        return BatchLoader(pairs(50), 8, train=True, shuffle=True, seed=1, epoch=lambda: 4)

    whole, stopped, resumed = loader(), loader(), loader()
    batches = iter(stopped)
    seen = [next(batches)[1] for _ in range(3)]
    resumed.load_state_dict(stopped.state_dict())
    seen += [targets for _, targets in resumed]
    assert torch.equal(torch.cat(seen), torch.cat([targets for _, targets in whole]))
    assert len(list(resumed)) == len(whole)  # the epoch after it is whole


def test_too_few_samples_for_the_processes_are_named() -> None:
    with pytest.raises(ValueError, match=r"^there must be a sample for each of 3 processes, got 2$"):
        BatchLoader(pairs(2), 3, world_size=3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("batch_size", 0), ("eval_batch_size", 0), ("passes_per_epoch", 0), ("num_workers", -1), ("seed", 2**32)],
)
def test_a_value_out_of_range_is_named(argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be >= \d( .*)?, got {value}$"):
        PointsDataModule(**{argument: value})  # type: ignore[arg-type]


@pytest.mark.process
def test_workers_draw_no_number_that_dropout_would_draw() -> None:
    before = torch.get_rng_state()
    assert len(list(BatchLoader(pairs(4), 2, num_workers=1))) == 2
    assert torch.equal(torch.get_rng_state(), before)
