"""The pictures of a report: the metric against what a sweep has varied, and the curves of runs over each other."""

import math
import statistics
from collections.abc import Iterable, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from backlit.entries import SEEDS, Entry, best_values
from backlit.run import brief

# Curves that a picture gets.
MOST_CURVES = 100


def _numbers(values: Iterable[str]) -> list[float] | None:
    """Return values as numbers, None if one is none."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def wants_log(numbers: Sequence[float]) -> bool:
    """Tell whether values ask for a logarithmic axis: all positive, over more than a decade."""
    return len(numbers) > 1 and min(numbers) > 0 and max(numbers) / min(numbers) > 10


def draw_sweep(entries: Sequence[Entry]) -> Figure:
    """Draw the optimised metric against what was varied; seeds are averaged, failures are left out."""
    done = [entry for entry in entries if entry.best and entry.run]
    # Of several metrics, the one of the best-ranked run: others are not to be compared with it.
    done = [entry for entry in done if entry.run and done[0].run and entry.run.metric == done[0].run.metric]
    keys = list(dict.fromkeys(key for entry in done for key in entry.settings))
    axes_keys = [key for key in keys if key not in SEEDS] or keys
    run = done[0].run
    assert run is not None
    name = f"best {run.metric[0]}"
    if len(axes_keys) == 2:
        figure = Figure(figsize=(7, 5), layout="constrained")
        _draw_map(figure.subplots(), done, axes_keys[0], axes_keys[1], name)
        return figure
    panels = axes_keys or [""]
    figure = Figure(figsize=(max(6, 4 * len(panels)), 4.5), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_curve(axes, done, key, name, is_alone=len(panels) == 1)
    return figure


def _groups(done: Sequence[Entry], keys: Sequence[str]) -> dict[tuple[str, ...], list[float]]:
    """Return the best values of the runs that have the same values of some keys."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for entry in done:
        groups.setdefault(tuple(entry.settings.get(key, "") for key in keys), []).extend(best_values([entry]))
    return groups


def _in_order(values: Iterable[str]) -> list[str]:
    """Return distinct values, numbers by size, others as they came."""
    distinct = list(dict.fromkeys(values))
    numbers = _numbers(distinct)
    return distinct if numbers is None else [value for _, value in sorted(zip(numbers, distinct, strict=True))]


def _draw_curve(axes: Axes, done: Sequence[Entry], key: str, name: str, *, is_alone: bool) -> None:
    """Draw the metric against one key: mean and standard deviation where it repeats, points if others vary too."""
    groups = _groups(done, [key])
    labels = _in_order(label for (label,) in groups)
    means = [statistics.mean(groups[(label,)]) for label in labels]
    deviations = [statistics.stdev(group) if len(group := groups[(label,)]) > 1 else 0 for label in labels]
    numbers = _numbers(labels)
    places: Sequence[float] = numbers if numbers else range(len(labels))
    if not is_alone:
        for label, place in zip(labels, places, strict=True):
            axes.plot([place] * len(groups[(label,)]), groups[(label,)], "o", color="C0", alpha=0.6)
    elif any(deviations):
        axes.errorbar(places, means, yerr=deviations, marker="o", capsize=3, label="mean ± standard deviation")
        for label, place in zip(labels, places, strict=True):
            values = groups[(label,)]
            axes.plot([place] * len(values), values, ".", color="grey", alpha=0.6)
        axes.legend()
    else:
        axes.plot(places, means, marker="o", linestyle="-" if numbers else "none")
    if numbers is None:
        axes.set_xticks(list(places), labels, rotation=30, ha="right")
    elif wants_log(numbers):
        axes.set_xscale("log")
    if wants_log([value for group in groups.values() for value in group]):
        axes.set_yscale("log")
    axes.set_xlabel(key or "run")
    axes.set_ylabel(name)
    axes.grid(alpha=0.3)


def _draw_map(axes: Axes, done: Sequence[Entry], across: str, down: str, name: str) -> None:
    """Draw the metric over two keys as a heat map, with its values."""
    groups = _groups(done, [across, down])
    columns, rows = _in_order(x for x, _ in groups), _in_order(y for _, y in groups)
    cells = {(x, y): statistics.mean(values) for (x, y), values in groups.items()}
    grid = [[cells.get((x, y), math.nan) for x in columns] for y in rows]
    norm = LogNorm() if wants_log(list(cells.values())) else Normalize()
    image = axes.imshow(grid, aspect="auto", origin="lower", cmap="viridis", norm=norm)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            if (x, y) in groups:
                values = groups[(x, y)]
                text = f"{cells[x, y]:.4g}" + (f"\n± {statistics.stdev(values):.2g}" if len(values) > 1 else "")
                colour = "white" if float(norm(cells[x, y])) < 0.5 else "black"
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    axes.figure.colorbar(image, ax=axes, label=name)


def draw_curves(entries: Sequence[Entry]) -> Figure:
    """Draw the curves of runs over each other, the best `MOST_CURVES` of them, the best on top."""
    drawable = [entry for entry in entries if entry.run and entry.run.rows]
    shown = drawable[:MOST_CURVES]
    found = {name for entry in shown if entry.run for row in entry.run.rows for name in row}
    names: list[str] = [name for name in ("train/loss", "val/loss", "val/acc") if name in found]
    names += [entry.run.metric[0] for entry in shown[:1] if entry.run and entry.run.metric[0] in found - {*names}]
    figure = Figure(figsize=(5 * max(1, len(names)), 4.5), layout="constrained")
    colours = colormaps["tab10" if len(shown) <= 10 else "viridis"]
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
        lowest: list[float] = []
        for rank, entry in reversed(list(enumerate(shown))):
            assert entry.run is not None
            points = [(row["step"], row[name]) for row in entry.run.rows if name in row]
            if not points:
                continue
            # The end of viridis is too bright for white paper.
            colour = colours(rank if len(shown) <= 10 else 0.85 * rank / len(shown))
            marker = "o" if len(points) <= 10 else ""
            axes.plot(
                *zip(*points, strict=True), color=colour, linewidth=1, marker=marker, markersize=3, label=_short(entry)
            )
            lowest += [value for _, value in points]
        if name.endswith("loss") and wants_log([value for value in lowest if math.isfinite(value)] or [1]):
            axes.set_yscale("log")
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    if len(shown) <= 10:
        # A run need not have all the metrics.
        found_in = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes)
        legend = {label: handle for pairs in found_in for handle, label in pairs}
        labels = [label for label in map(_short, shown) if label in legend]
        figure.legend([legend[label] for label in labels], labels, loc="outside lower center", ncols=2, fontsize=8)
    else:
        figure.suptitle(f"the best {len(shown)} of {len(drawable)} runs with curves, the best darkest")
    return figure


def _short(entry: Entry) -> str:
    said = brief(" ".join(f"{key}={value}" for key, value in entry.settings.items()))
    return (said if 0 < len(said) < 80 else entry.name)[:80]
