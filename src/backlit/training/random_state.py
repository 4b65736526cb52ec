"""The random generators of a process, and what it has measured, as plain data for a checkpoint."""

import random
from typing import Any

import numpy
import torch
from lightning.pytorch import LightningModule

from backlit.models import Classifier


def rank_state(pl_module: LightningModule) -> dict[str, Any]:
    """Return, as plain data, what Lightning does not keep of a process."""
    version, internal, gauss = random.getstate()
    generator: Any = numpy.random.get_state()
    name, keys, *rest = generator
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if pl_module.device.type == "cuda" else None,
        "measured": pl_module.metric_state() if isinstance(pl_module, Classifier) else None,
    }


def restore_rank_state(pl_module: LightningModule, state: dict[str, Any]) -> None:
    """Restore what `rank_state` has returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and pl_module.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
    if state["measured"] is not None and isinstance(pl_module, Classifier):
        pl_module.load_metric_state(state["measured"])
