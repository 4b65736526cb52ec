"""Whether the best of a sweep lies at the edge of what was tried, and what lies beyond."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backlit.sweeps.entries import Entry

# The part of the range at each end that counts as its edge.
_MARGIN = 0.05
# Values whose largest is so many times the smallest are compared by their ratios.
_LOG_RATIO = 10


@dataclass(frozen=True)
class Tried:
    """The values that were tried for a key.

    Args:
        values: Those of a list, or the two ends of an interval, in ascending order.
        is_interval: Whether they are the ends of an interval.
        is_log: Whether they are compared by their ratios.
        is_whole: Whether only whole numbers can be tried.
    """

    values: list[float]
    is_interval: bool
    is_log: bool
    is_whole: bool

    def position(self, value: float) -> float:
        """Return where a value lies between the lowest, 0, and the highest, 1."""
        scale = math.log if self.is_log else float
        low, high = scale(self.values[0]), scale(self.values[-1])
        return (scale(value) - low) / (high - low)


@dataclass(frozen=True)
class Edge:
    """A key whose best value lies at the edge of those that were tried.

    Args:
        key: The key.
        best: Its best value.
        tried: All values that were tried.
    """

    key: str
    best: float
    tried: Tried

    @property
    def is_upper(self) -> bool:
        """Return whether it is the upper edge."""
        return self.tried.position(self.best) > 0.5

    def beyond(self) -> list[float]:
        """Return up to two values beyond the edge, as far from each other as those that were tried on average.

        They are whole if those are, and > 0 if those are.
        """
        values = self.tried.values
        low, high = values[0], values[-1]
        end, other = (high, low) if self.is_upper else (low, high)
        if self.tried.is_log:
            factor = (end / other) ** (1 / (len(values) - 1))
            found = [end * factor, end * factor**2]
        else:
            step = (end - other) / (len(values) - 1)
            found = [end + step, end + 2 * step]
        short = [float(round(value)) if self.tried.is_whole else _short(value) for value in found]
        return [value for value in short if value > 0 or low <= 0]

    def distribution(self) -> str:
        """Return what reaches from the best value beyond the edge, in Hydra's grammar; empty if nothing is beyond."""
        low, high = self.tried.values[0], self.tried.values[-1]
        if not self.tried.is_interval:
            return ",".join(f"{value:g}" for value in (self.best, *self.beyond())) if self.beyond() else ""
        if self.tried.is_log:
            ends = [self.best / 3, high * 10] if self.is_upper else [low / 10, self.best * 3]
        else:
            span = high - low
            ends = [self.best - span / 4, high + span] if self.is_upper else [low - span, self.best + span / 4]
            if low >= 0:
                ends[0] = max(0.0, ends[0])
        if self.tried.is_whole:
            text = f"int(interval({max(1, round(ends[0])) if low > 0 else round(ends[0])}, {round(ends[1])}))"
        else:
            text = f"interval({_short(ends[0]):g}, {_short(ends[1]):g})"
        return f"tag(log, {text})" if self.tried.is_log else text


def is_log(values: Sequence[float]) -> bool:
    """Return whether ascending values are compared by ratios: they are > 0, and spread over a decade or evenly so."""
    if values[0] <= 0:
        return False
    ratios = [after / before for before, after in itertools.pairwise(values)]
    return values[-1] / values[0] >= _LOG_RATIO or (len(ratios) > 1 and max(ratios) < 1.01 * min(ratios))


def _short(value: float) -> float:
    return float(f"{value:.2g}")


def tried_in_grid(entries: Sequence[Entry]) -> dict[str, Tried]:
    """Return what was tried for each key of a grid that has at least three numbers."""
    keys = list(dict.fromkeys(key for entry in entries for key in entry.settings))
    values = {key: tried_values(entries, key) for key in keys}
    return {key: tried_list(each) for key, each in values.items() if len(each) >= 3}


def tried_list(values: list[float]) -> Tried:
    """Return what was tried by a list of values in ascending order."""
    return Tried(values, False, is_log(values), all(value.is_integer() for value in values))


def find_edges(best: Entry, tried: Mapping[str, Tried]) -> list[Edge]:
    """Return the keys whose best value lies at the edge of those that were tried.

    Args:
        best: The best job.
        tried: What was tried, by key.
    """
    edges = []
    for key, values in tried.items():
        value = number_of(best.settings.get(key, ""))
        if value is not None and not key.endswith("seed") and not _MARGIN < values.position(value) < 1 - _MARGIN:
            edges.append(Edge(key, value, values))
    return edges


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
