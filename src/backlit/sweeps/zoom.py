"""The next values of a grid: beyond the edge if the best is at one, else beside the best."""

import math
from collections.abc import Mapping
from pathlib import Path

from backlit.sweeps.edge import find_edges, is_log, number_of, tried_in_grid, tried_values
from backlit.sweeps.entries import sweep_entries
from backlit.sweeps.ranking import best_entry


def next_values(sweep_dir: Path, values: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the next overrides of each key of a grid whose values are numbers.

    Args:
        sweep_dir: The sweep.
        values: The overrides of each key until now, as they are combined.
    """
    entries, _ = sweep_entries(sweep_dir)
    best = best_entry(entries)
    if best is None:
        return {}
    edges = {edge.key: edge for edge in find_edges(best, tried_in_grid(entries))}
    found: dict[str, list[str]] = {}
    for key, text in best.settings.items():
        tried, value = tried_values(entries, key), number_of(text)
        if key not in values or value is None or len(tried) < 3 or key.endswith("seed"):
            continue
        more = edges[key].beyond() if key in edges else _beside(value, tried)
        if more:
            found[key] = [f"{key}={each:g}" for each in more]
    return found


def _beside(value: float, tried: list[float]) -> list[float]:
    """Return a value between the best one and each of its neighbours: their mean, of ratios where these count."""
    index = tried.index(value)
    neighbours = [tried[index - 1], tried[index + 1]]
    if is_log(tried):
        means = [float(f"{math.sqrt(value * neighbour):.2g}") for neighbour in neighbours]
    else:
        means = [float(f"{(value + neighbour) / 2:.4g}") for neighbour in neighbours]
    if all(each.is_integer() for each in tried):
        means = [float(round(mean)) for mean in means]
    return [mean for mean in means if mean not in tried]
