"""Which value of a monitored metric is the best: chosen by the metric, or checked against it."""

from collections.abc import Iterator
from typing import Any

from lightning import LightningModule

from backlit.models.metric_mode import metric_mode


def choose_modes(config: dict[str, Any], model: LightningModule | None) -> Iterator[str]:
    """Fill in modes of a config that are null; yield a line for each that is unknown or contradicts its metric.

    Args:
        config: Plain data; ``optimized_mode`` and ``scheduler.mode`` are filled in.
        model: The module that measures the metrics; None if it could not be built.
    """
    config["optimized_mode"], problem = choose_mode(model, config["optimized_metric"], config["optimized_mode"])
    if problem:
        yield f"optimized_mode must be {problem}"
    scheduler = config["scheduler"]
    if {"monitor", "mode"} <= scheduler.keys():
        scheduler["mode"], problem = choose_mode(model, scheduler["monitor"], scheduler["mode"])
        if problem:
            yield f"scheduler.mode must be {problem}"


def choose_mode(model: LightningModule | None, metric: Any, given: Any) -> tuple[Any, str | None]:
    """Return the mode for a metric, and what it must be if the given one will not do."""
    mode = metric_mode(model, metric) if isinstance(metric, str) else None
    if given is None:
        return mode, None if mode else f"min or max for {metric}, of which it is not known, got null"
    if mode not in (None, given) and given in ("min", "max"):
        return given, f"{mode} or null for {metric}, got {given}"
    return given, None
