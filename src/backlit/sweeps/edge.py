"""Whether the best of a sweep lies at the edge of what was tried, and what lies beyond."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from backlit.sweeps.entries import Entry

# The part of the range at each end that counts as its edge.
_MARGIN = 0.05
# Values whose largest is so many times the smallest are compared by their ratios.
_LOG_RATIO = 10


@dataclass(frozen=True)
class Edge:
    """A key whose best value lies at the edge of those that were tried.

    Args:
        key: The key.
        best: Its best value.
        values: All values that were tried, in ascending order.
    """

    key: str
    best: float
    values: list[float]

    @property
    def is_upper(self) -> bool:
        """Return whether it is the upper edge."""
        return self.best - self.values[0] > self.values[-1] - self.best

    @property
    def is_log(self) -> bool:
        """Return whether the values are compared by their ratios."""
        return is_log(self.values)

    @property
    def is_whole(self) -> bool:
        """Return whether all values are whole numbers."""
        return all(value.is_integer() for value in self.values)

    def beyond(self) -> list[float]:
        """Return up to two values beyond the edge, as far from each other as those that were tried on average.

        They are whole if those are, and > 0 if those are.
        """
        low, high = self.values[0], self.values[-1]
        end, other = (high, low) if self.is_upper else (low, high)
        if self.is_log:
            factor = (end / other) ** (1 / (len(self.values) - 1))
            found = [end * factor, end * factor**2]
        else:
            step = (end - other) / (len(self.values) - 1)
            found = [end + step, end + 2 * step]
        short = [float(round(value)) if self.is_whole else _short(value) for value in found]
        return [value for value in short if value > 0 or low <= 0]

    def distribution(self) -> str:
        """Return what reaches from the best value beyond the edge, in Hydra's grammar: a list of whole numbers too."""
        low, high = self.values[0], self.values[-1]
        if self.is_whole:
            return ",".join(f"{value:g}" for value in (self.best, *self.beyond()))
        if self.is_log:
            ends = (self.best / 3, high * 10) if self.is_upper else (low / 10, self.best * 3)
            return f"tag(log, interval({_short(ends[0]):g}, {_short(ends[1]):g}))"
        span = high - low
        ends = (self.best - span / 4, high + span) if self.is_upper else (low - span, self.best + span / 4)
        return f"interval({_short(ends[0]):g}, {_short(ends[1]):g})"


def is_log(values: Sequence[float]) -> bool:
    """Return whether ascending values are compared by ratios: they are > 0, and spread over a decade or evenly so."""
    if values[0] <= 0:
        return False
    ratios = [after / before for before, after in itertools.pairwise(values)]
    return values[-1] / values[0] >= _LOG_RATIO or (len(ratios) > 1 and max(ratios) < 1.01 * min(ratios))


def _short(value: float) -> float:
    return float(f"{value:.2g}")


def find_edges(entries: Sequence[Entry], best: Entry) -> list[Edge]:
    """Return the keys whose best value lies at the edge of at least three that were tried.

    Args:
        entries: The jobs of a sweep.
        best: The best of them.
    """
    edges = []
    for key, text in best.settings.items():
        values, value = tried_values(entries, key), number_of(text)
        if value is None or len(values) < 3 or key.endswith("seed"):
            continue
        position = _scaled(value, values)
        if not _MARGIN < position < 1 - _MARGIN:
            edges.append(Edge(key, value, values))
    return edges


def _scaled(value: float, values: Sequence[float]) -> float:
    """Return where a value lies between the lowest, 0, and the highest, 1, of ascending values."""
    scale = math.log if is_log(values) else float
    low, high = scale(values[0]), scale(values[-1])
    return (scale(value) - low) / (high - low)


def tried_values(entries: Sequence[Entry], key: str) -> list[float]:
    """Return the numbers that were tried for a key, in ascending order."""
    return sorted({value for entry in entries if (value := number_of(entry.settings.get(key, ""))) is not None})


def number_of(text: str) -> float | None:
    """Return a text as a finite number; None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
