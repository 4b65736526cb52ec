"""The picture of a sweep: a metric against the settings that vary."""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from backlit.plots.image import plain
from backlit.text import metric_text

# Labels of ticks that would overlap side by side.
_SLANTED: dict[str, Any] = {"rotation": 30, "ha": "right"}

Settings = Sequence[Mapping[str, str]]


def wants_log_scale(numbers: Sequence[float]) -> bool:
    """Return whether values need a logarithmic axis: all positive, over a decade or more."""
    return len(numbers) > 1 and min(numbers) > 0 and max(numbers) / min(numbers) >= 10


def draw_sweep(settings: Settings, values: Sequence[float], metric: str, averaged: Collection[str] = ()) -> Figure:
    """Return a figure of a metric: a curve over one key, a heat map over a grid of two, else a panel per key.

    Args:
        settings: The varying settings of each run: key to value.
        values: The metric of each run.
        metric: The name of the metric.
        averaged: Keys, like the seed, over which the metric is averaged if another key varies.
    """
    keys = list(dict.fromkeys(key for each in settings for key in each))
    keys = [key for key in keys if key not in averaged] or keys
    if len(keys) == 2 and _is_grid(settings, keys):
        figure = Figure(figsize=(7, 5), layout="constrained")
        _draw_map(figure.subplots(), _group(settings, values, keys), keys[0], keys[1], metric)
        return figure
    panels = keys or [""]
    figure = Figure(figsize=(max(6, 4 * len(panels)), 4.5), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        groups = {label: group for (label,), group in _group(settings, values, [key]).items()}
        _draw_curve(axes, groups, is_alone=len(panels) == 1)
        axes.set_xlabel(plain(key or "run"))
    figure.axes[0].set_ylabel(plain(metric))
    return figure


def _is_grid(settings: Settings, keys: Sequence[str]) -> bool:
    """Return whether at least half of all combinations of the values of some keys are there."""
    combinations = {tuple(each.get(key, "") for key in keys) for each in settings}
    return len(combinations) >= math.prod(len({each.get(key, "") for each in settings}) for key in keys) / 2


def _numbers(values: Iterable[str]) -> list[float] | None:
    """Return values as finite numbers; None if one is not a finite number."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _group(settings: Settings, values: Sequence[float], keys: Sequence[str]) -> dict[tuple[str, ...], list[float]]:
    """Return the values of the runs, grouped by the settings of some keys."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for each, value in zip(settings, values, strict=True):
        groups.setdefault(tuple(each.get(key, "") for key in keys), []).append(value)
    return groups


def _sort_distinct(values: Iterable[str]) -> list[str]:
    """Return the distinct values: numbers sorted, others in their order."""
    distinct = list(dict.fromkeys(values))
    numbers = _numbers(distinct)
    return distinct if numbers is None else [value for _, value in sorted(zip(numbers, distinct, strict=True))]


def _draw_curve(axes: Axes, groups: Mapping[str, list[float]], *, is_alone: bool) -> None:
    """Draw the metric against one key: mean and standard deviation over repeats, points if other keys vary too."""
    labels = _sort_distinct(groups)
    means = [statistics.mean(groups[label]) for label in labels]
    deviations = [statistics.stdev(group) if len(group := groups[label]) > 1 else 0 for label in labels]
    numbers = _numbers(labels)
    positions: Sequence[float] = numbers if numbers else range(len(labels))
    if not is_alone:
        for label, position in zip(labels, positions, strict=True):
            axes.plot([position] * len(groups[label]), groups[label], "o", color="C0", alpha=0.6)
    elif any(deviations):
        axes.errorbar(positions, means, yerr=deviations, marker="o", capsize=3, label="mean ± standard deviation")
        for label, position in zip(labels, positions, strict=True):
            axes.plot([position] * len(groups[label]), groups[label], ".", color="grey", alpha=0.6)
        axes.legend()
    else:
        axes.plot(positions, means, marker="o", linestyle="-" if numbers else "none")
    if numbers is None:
        axes.set_xticks(list(positions), list(map(plain, labels)), **_SLANTED if max(map(len, labels)) > 8 else {})
    elif wants_log_scale(numbers):
        axes.set_xscale("log")
    if wants_log_scale([value for group in groups.values() for value in group]):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _draw_map(axes: Axes, groups: Mapping[tuple[str, ...], list[float]], across: str, down: str, metric: str) -> None:
    """Draw the metric over two keys as a heat map, with its values."""
    columns, rows = _sort_distinct(x for x, _ in groups), _sort_distinct(y for _, y in groups)
    cells = {(x, y): statistics.mean(values) for (x, y), values in groups.items()}
    grid = [[cells.get((x, y), math.nan) for x in columns] for y in rows]
    norm = LogNorm() if wants_log_scale(list(cells.values())) else Normalize()
    image = axes.imshow(grid, aspect="auto", origin="lower", cmap="viridis", norm=norm)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            if (x, y) in groups:
                values = groups[(x, y)]
                text = metric_text(cells[x, y]) + (f"\n± {statistics.stdev(values):.2g}" if len(values) > 1 else "")
                colour = "white" if float(norm(cells[x, y])) < 0.5 else "black"
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(columns)), list(map(plain, columns)))
    axes.set_yticks(range(len(rows)), list(map(plain, rows)))
    axes.set_xlabel(plain(across))
    axes.set_ylabel(plain(down))
    axes.figure.colorbar(image, ax=axes, label=plain(metric))
