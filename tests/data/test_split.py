import pytest
import torch

from backlit.data.split import split_by_class

LABELS = torch.tensor([0] * 40 + [1] * 10 + [2] * 3 + [3])[
    torch.randperm(54, generator=torch.Generator().manual_seed(0))
]


def counts(indices: torch.Tensor) -> list[int]:
    return torch.bincount(LABELS[indices], minlength=4).tolist()


def test_each_part_has_its_fraction_of_each_class_and_no_sample_is_in_two() -> None:
    rest, test, val = split_by_class(LABELS, [0.2, 0.1], 0)
    assert [counts(part) for part in (rest, test, val)] == [[28, 7, 2, 1], [8, 2, 1, 0], [4, 1, 0, 0]]
    assert sorted(torch.cat([rest, test, val]).tolist()) == list(range(54))
    assert all(part.tolist() == sorted(part.tolist()) for part in (rest, test, val))


def test_the_choice_is_random_and_depends_on_the_seed_alone() -> None:
    first, same, other = (split_by_class(LABELS, [0.3], seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first, torch.arange(len(first)))
    # A part does not change if another one after it does.
    assert torch.equal(split_by_class(LABELS, [0.3, 0.2], 1)[1], first)


@pytest.mark.parametrize("fractions", [[0.9], [0.5, 0.49], [0.99, 0.001]])
def test_one_sample_of_each_class_stays_for_training(fractions: list[float]) -> None:
    assert min(counts(split_by_class(LABELS, fractions, 0)[0])) >= 1
