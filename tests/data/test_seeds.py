from itertools import product

import numpy

from backlit.data.seeds import mix_seeds


def test_each_seed_and_epoch_have_a_seed_of_their_own() -> None:
    mixed = {mix_seeds(seed, epoch) for seed, epoch in product(range(50), repeat=2)}
    assert len(mixed) == 2500
    assert max(mixed) < 2**64
    assert max(mixed) > 2**63  # all 64 bits are used


def test_the_seed_is_that_of_numpys_seed_sequence() -> None:
    assert mix_seeds(3, 5) == int(numpy.random.SeedSequence([3, 5]).generate_state(1, numpy.uint64)[0])
    assert mix_seeds(3, 5) == mix_seeds(3, 5) != mix_seeds(5, 3)
