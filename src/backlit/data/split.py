"""Samples held out of a data set that has no parts of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backlit.data.seeds import mix_seeds


def split_by_class(labels: Tensor, fractions: Sequence[float], seed: int) -> list[Tensor]:
    """Return the indices of the samples that stay, and those that are held out, at random: a part for each fraction.

    Each part gets the same fraction of each class, rounded to whole samples; at least one of each class stays. The
    indices of a part are in ascending order.

    Args:
        labels: Shape ``(n,)``, int64.
        fractions: How much is held out, each > 0 and together < 1. A part does not change if those after it do.
        seed: Seeds the choice.
    """
    part = torch.zeros(len(labels), dtype=torch.int64)
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        # A generator of its own: the samples of one class do not change which of another are held out.
        generator = torch.Generator().manual_seed(mix_seeds(seed, label))
        members = members[torch.randperm(len(members), generator=generator)]
        start, most = 0, len(members) - 1
        for number, fraction in enumerate(fractions, start=1):
            stop = min(start + round(fraction * len(members)), most)
            part[members[start:stop]] = number
            start = stop
    return [(part == number).nonzero().flatten() for number in range(len(fractions) + 1)]
