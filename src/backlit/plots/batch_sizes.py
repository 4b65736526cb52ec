"""Samples per second at growing batch sizes."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from backlit.plots.image import BLUE, ORANGE


def draw_batch_sizes(speeds: Mapping[int, float], suggested: int) -> Figure:
    """Return the speed of training over the batch size, and the size that is suggested.

    Args:
        speeds: Batch sizes, increasing, to samples per second.
        suggested: One of the sizes.
    """
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots(gridspec_kw={"left": 0.13, "right": 0.98, "bottom": 0.14, "top": 0.91})
    axes.plot([*speeds], [*speeds.values()], color=BLUE, marker="o")
    axes.axvline(suggested, color=ORANGE, label=f"data.batch_size={suggested}: the smallest with 95 % of the most")
    axes.set_xscale("log", base=2)
    axes.set_xticks([*speeds], [f"{size}" for size in speeds])
    axes.set_ylim(0, 1.15 * max(speeds.values()))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="batch size", title="Samples per second in training")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure
