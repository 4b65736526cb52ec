"""Loss and accuracy over the optimizer steps."""

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from backlit.plots.image import BLUE, ORANGE

# A few points need markers; hundreds of markers would hide the curve.
MOST_MARKS = 20


def draw_curves(rows: Iterable[Mapping[str, float]]) -> Figure:
    """Return loss and accuracy over the optimizer steps.

    Args:
        rows: The records of a run, each with ``step`` and the metrics recorded at this step: ``val/loss``, or
            ``val_loss`` of a module that names them so.
    """
    rows = list(rows)
    figure = Figure(figsize=(9, 4))
    margins = {"left": 0.07, "right": 0.98, "bottom": 0.13, "top": 0.92, "wspace": 0.2}
    kinds = {"loss": "loss", "acc": "accuracy"}
    for axes, (kind, title) in zip(figure.subplots(1, 2, gridspec_kw=margins), kinds.items(), strict=True):
        stages = (("train", BLUE), ("val", ORANGE))
        named = [(f"{stage}{mark}{kind}", colour) for stage, colour in stages for mark in "/_"]
        for name, colour in named:
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                marker = "o" if len(points) <= MOST_MARKS else ""
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=name)
        axes.set(xlabel="optimizer steps", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return figure
