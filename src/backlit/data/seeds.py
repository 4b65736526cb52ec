"""One seed from several numbers."""

import numpy


def mix_seeds(*numbers: int) -> int:
    """Return a 64-bit seed that depends on all given non-negative integers (NumPy's `SeedSequence`).

    With a sum instead, epoch 1 of seed 0 would have the order of epoch 0 of seed 1.
    """
    return int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0])
