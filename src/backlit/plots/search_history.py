"""The picture of a search: what each trial reached, and the best so far."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from backlit.plots.image import plain
from backlit.plots.sweep import wants_log_scale

# How trials are marked, by their status; others are not completed, either.
_MARKS = {"completed": ("o", "C0"), "pruned": ("x", "C7")}


def draw_search_history(values: Sequence[tuple[int, float, str]], *, is_max_best: bool) -> Figure:
    """Return a figure with the value of each trial, and the best of the completed ones so far.

    Args:
        values: Number, value and status of each trial, by number.
        is_max_best: Whether the largest value is the best.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for status in dict.fromkeys(status for _, _, status in values):
        marker, color = _MARKS.get(status, ("s", "C3"))
        numbers = [number for number, _, found in values if found == status]
        reached = [value for _, value, found in values if found == status]
        axes.scatter(numbers, reached, marker=marker, color=color, s=28, label=plain(status), zorder=3)
    completed = [(number, value) for number, value, status in values if status == "completed"]
    if completed:
        better = max if is_max_best else min
        best = [better(value for _, value in completed[: index + 1]) for index in range(len(completed))]
        steps = [number for number, _ in completed] + [values[-1][0]]
        axes.step(steps, [*best, best[-1]], where="post", color="C0", linewidth=1, label="best so far")
    if wants_log_scale([value for _, value, _ in values]):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel("best value of the optimized metric; the mean of its seeds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
