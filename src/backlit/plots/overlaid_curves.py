"""The curves of several runs in one figure."""

import math
from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator

from backlit.plots.image import plain
from backlit.plots.sweep import wants_log_scale

Curve = tuple[str, Sequence[Mapping[str, float]]]
Group = tuple[str, Sequence[Curve], str]

MAX_CURVES = 100
MAX_GROUPS = 20
# More would fit neither into a legend nor into a palette of distinct colours.
_MAX_LABELS = 10


def draw_overlaid_curves(groups: Sequence[Group]) -> Figure:
    """Return a figure of losses and metric over the optimizer steps, a row a group.

    At most `MAX_CURVES` runs of `MAX_GROUPS` groups are shown, the best on top. Ten have a legend; the colours of more
    show their number, counted from 1.

    Args:
        groups: Title, curves and optimized metric of each group. A curve is the label and the rows of ``metrics.csv``
            of a run; the best run is first.
    """
    shown = groups[:MAX_GROUPS] or [("", [], "")]
    recorded = [_recorded_metrics(curves, metric) for _, curves, metric in shown]
    widest = max(1, *map(len, recorded))
    figure = Figure(figsize=(5 * widest + 1, 4.8 * len(shown)), layout="constrained")
    for part, (title, curves, _), names in zip(
        figure.subfigures(len(shown), 1, squeeze=False)[:, 0], shown, recorded, strict=True
    ):
        _draw_group(part, title, curves, names, widest)
    return figure


def _recorded_metrics(curves: Sequence[Curve], metric: str) -> list[str]:
    recorded = {name for _, rows in curves[:MAX_CURVES] for row in rows for name in row}
    return [name for name in dict.fromkeys(["train/loss", "val/loss", "val/acc", metric]) if name in recorded]


def _draw_group(part: SubFigure, title: str, curves: Sequence[Curve], names: Sequence[str], columns: int) -> None:
    """Draw the curves of a group, a panel a metric, with a legend or a scale of their numbers."""
    shown = [(plain(label), rows) for label, rows in curves[:MAX_CURVES]]
    every_axes = part.subplots(1, columns, squeeze=False)[0]
    for axes, name in zip(every_axes, names, strict=False):
        _draw_metric(axes, shown, name)
    for axes in every_axes[max(1, len(names)) :]:
        axes.set_visible(False)
    if len(shown) <= _MAX_LABELS:
        # A run may lack some metrics.
        handles = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in every_axes)
        by_label = {label: handle for pairs in handles for handle, label in pairs}
        labels = [label for label, _ in shown if label in by_label]
        part.legend([by_label[label] for label in labels], labels, loc="outside lower center", ncols=2, fontsize=8)
    else:
        numbers = range(1, len(shown) + 1)
        scale = ScalarMappable(
            BoundaryNorm([number - 0.5 for number in (*numbers, len(shown) + 1)], len(shown)),
            ListedColormap([_colour(rank, len(shown)) for rank in range(len(shown))]),
        )
        step = math.ceil(len(shown) / 12)
        ticks = FixedLocator([1, *(number for number in numbers if number % step == 0 and number > 1)])
        bar = part.colorbar(scale, ax=list(every_axes), ticks=ticks, label="number of the run in the table")
        bar.ax.minorticks_off()
        bar.ax.invert_yaxis()
        if len(curves) > len(shown):
            title = f"{title}, the best {len(shown)}".removeprefix(", ")
    part.suptitle(plain(title))


def _colour(rank: int, count: int) -> tuple[float, float, float, float]:
    """Return the colour of a run, the best of which has rank 0."""
    if count <= _MAX_LABELS:
        return colormaps["tab10"](rank)
    return colormaps["viridis"](0.85 * rank / count)  # its end is too bright on white


def _draw_metric(axes: Axes, curves: Sequence[Curve], name: str) -> None:
    """Draw one metric of all runs, the first run last, so that it is on top."""
    drawn: list[float] = []
    for rank, (label, rows) in reversed(list(enumerate(curves))):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if not points:
            continue
        colour, marker = _colour(rank, len(curves)), "o" if len(points) <= 10 else ""
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1, marker=marker, markersize=3, label=label)
        drawn += [value for _, value in points if math.isfinite(value)]
    if name.endswith("loss") and wants_log_scale(drawn):
        axes.set_yscale("log")
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(plain(name))
    axes.grid(alpha=0.3)
