"""The random generators of a process, and what it has measured, as plain data for a checkpoint."""

import random
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule
from torchmetrics import Metric

from backlit.models import Classifier


def generator_state(device: torch.device, more: Sequence[torch.Generator] = ()) -> dict[str, Any]:
    """Return, as plain data, the state of all random generators.

    Args:
        device: The device that the process trains on.
        more: Generators besides the global ones.
    """
    version, internal, gauss = random.getstate()
    generator: Any = numpy.random.get_state()
    name, keys, *rest = generator
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if device.type == "cuda" else None,
        "more": [one.get_state() for one in more],
    }


def restore_generators(state: dict[str, Any], device: torch.device, more: Sequence[torch.Generator] = ()) -> None:
    """Restore what `generator_state` has returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
    for one, its_state in zip(more, state.get("more", ()), strict=False):
        one.set_state(its_state)


def rank_state(pl_module: LightningModule, more: Sequence[torch.Generator] = ()) -> dict[str, Any]:
    """Return, as plain data, what Lightning does not keep of a process."""
    measured = pl_module.metric_state() if isinstance(pl_module, Classifier) else None
    return generator_state(pl_module.device, more) | {"measured": measured}


def restore_rank_state(pl_module: LightningModule, state: dict[str, Any], more: Sequence[torch.Generator] = ()) -> None:
    """Restore what `rank_state` has returned."""
    restore_generators(state, pl_module.device, more)
    if state["measured"] is not None and isinstance(pl_module, Classifier):
        pl_module.load_metric_state(state["measured"])


def metric_states(pl_module: LightningModule) -> dict[str, dict[str, Any]]:
    """Return, by name, what the metrics of somebody else's module have summed up in an epoch."""
    if isinstance(pl_module, Classifier):  # it updates them at the end of an epoch
        return {}
    return {name: dict(one.metric_state) for name, one in pl_module.named_modules() if isinstance(one, Metric)}


def restore_metrics(pl_module: LightningModule, states: dict[str, dict[str, Any]]) -> None:
    """Restore what `metric_states` has returned."""
    for name, metric in pl_module.named_modules():
        for key, value in states.get(name, {}).items():
            setattr(metric, key, move_data_to_device(value, pl_module.device))
