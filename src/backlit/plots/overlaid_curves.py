"""The curves of several runs in one figure."""

import math
from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from backlit.plots.image import plain
from backlit.plots.sweep import wants_log_scale

Curve = tuple[str, Sequence[Mapping[str, float]]]

MAX_CURVES = 100
# More would fit neither into a legend nor into a palette of distinct colours.
_MAX_LABELS = 10


def draw_overlaid_curves(curves: Sequence[Curve], metric: str) -> Figure:
    """Return a figure of losses and metric over the optimizer steps, for at most `MAX_CURVES` runs, the best on top.

    Args:
        curves: Label and rows of ``metrics.csv`` of each run, the best run first.
        metric: The optimized metric.
    """
    shown = [(plain(label), rows) for label, rows in curves[:MAX_CURVES]]
    recorded = {name for _, rows in shown for row in rows for name in row}
    names = [name for name in dict.fromkeys(["train/loss", "val/loss", "val/acc", metric]) if name in recorded]
    figure = Figure(figsize=(5 * max(1, len(names)), 4.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
        _draw_metric(axes, shown, name)
    if len(shown) <= _MAX_LABELS:
        # A run may lack some metrics.
        handles = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes)
        by_label = {label: handle for pairs in handles for handle, label in pairs}
        labels = [label for label, _ in shown if label in by_label]
        figure.legend([by_label[label] for label in labels], labels, loc="outside lower center", ncols=2, fontsize=8)
    else:
        figure.suptitle(f"the best {len(shown)} of {len(curves)} runs with curves, the best darkest")
    return figure


def _draw_metric(axes: Axes, curves: Sequence[Curve], name: str) -> None:
    """Draw one metric of all runs, the first run last, so that it is on top."""
    drawn: list[float] = []
    for rank, (label, rows) in reversed(list(enumerate(curves))):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if not points:
            continue
        if len(curves) <= _MAX_LABELS:
            colour = colormaps["tab10"](rank)
        else:  # the end of viridis is too bright on white
            colour = colormaps["viridis"](0.85 * rank / len(curves))
        marker = "o" if len(points) <= 10 else ""
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1, marker=marker, markersize=3, label=label)
        drawn += [value for _, value in points if math.isfinite(value)]
    if name.endswith("loss") and wants_log_scale(drawn):
        axes.set_yscale("log")
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(plain(name))
    axes.grid(alpha=0.3)
