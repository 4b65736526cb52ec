"""Plain DataLoaders: when a run resumes within an epoch, they repeat its order and skip the batches that are done.

A `BatchLoader` restores its place by itself, as does any loader with ``state_dict``. A `DataLoader` draws the order of
an epoch, and the seeds of its workers, when its iteration begins.
"""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from backlit.training import lightning_internals
from backlit.training.random_state import generator_state, restore_generators


class LoaderOrder:
    """Keeps the random generators as they were when the iteration of the current epoch began."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None

    def keep(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the generators as they are; before an iteration begins."""
        self.state = generator_state(pl_module.device, own_generators(trainer))

    def replay(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the iteration of an epoch that is resumed as it began before, and skip the batches that are done."""
        if self.state is not None and has_plain_loaders(trainer):
            own = own_generators(trainer)
            for generator in own:  # as they are when the first epoch begins, whose state was kept before they existed
                generator.manual_seed(generator.initial_seed())
            restore_generators(self.state, pl_module.device, own)
            lightning_internals.repeat_batches(trainer)


def has_plain_loaders(trainer: Trainer) -> bool:
    """Return whether no training loader keeps its place by ``state_dict``."""
    return not any(hasattr(loader, "state_dict") for loader in lightning_internals.train_loaders(trainer))


def own_generators(trainer: Trainer) -> list[torch.Generator]:
    """Return the generators that training loaders and their samplers were given."""
    found: dict[int, torch.Generator] = {}
    for loader in lightning_internals.train_loaders(trainer):
        for holder in (loader, getattr(loader, "sampler", None)):
            generator = getattr(holder, "generator", None)
            if isinstance(generator, torch.Generator):
                found[id(generator)] = generator
    return list(found.values())
