"""The loss at growing learning rates."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from backlit.plots.image import BLUE, ORANGE


def draw_learning_rates(rates: Sequence[float], losses: Sequence[float], suggested: float) -> Figure:
    """Return the running mean of the training loss over the learning rate, and the rate that is suggested.

    Args:
        rates: Increasing.
        losses: As many, all finite.
        suggested: One of the rates.
    """
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots(gridspec_kw={"left": 0.1, "right": 0.98, "bottom": 0.14, "top": 0.91})
    axes.semilogx(rates, losses, color=BLUE)
    axes.axvline(suggested, color=ORANGE, label=f"optimizer.lr={suggested:.3g}: the loss falls most steeply")
    # The last losses, at which the training diverges, would flatten the rest.
    low = min(losses)
    high = max(losses[: losses.index(low) + 1])
    span = high - low or 1
    axes.set_ylim(low - 0.2 * span, high + 0.5 * span)
    axes.set(xlabel="learning rate", title="Training loss, running mean, while the learning rate grows")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
