"""What makes a run resume inexactly: parts that keep a state which is in no checkpoint."""

from collections.abc import Iterator

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BaseFinetuning, BatchSizeFinder, LearningRateFinder, ModelPruning
from torch.utils.data import IterableDataset

from backlit.training import lightning_internals

_INEXACT_CALLBACKS = {
    BatchSizeFinder: "it searches again",
    LearningRateFinder: "it searches again",
    ModelPruning: "no checkpoint has its masks",
    BaseFinetuning: "layers that it has unfrozen within an epoch are frozen until the next",
}


def inexact_parts(trainer: Trainer) -> Iterator[str]:
    """Yield a line for each part with which a resumed run differs from an uninterrupted one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        reasons = [reason for kind, reason in _INEXACT_CALLBACKS.items() if isinstance(callback, kind)]
        if reasons:
            yield f"with {type(callback).__name__} a resumed run is not bit-identical: {reasons[0]}"
    for loader in lightning_internals.train_loaders(trainer):
        if getattr(loader, "persistent_workers", False):
            state = "no checkpoint has the workers' random generators"
            yield f"with persistent_workers=True a resumed run may not be bit-identical: {state}"
        elif isinstance(getattr(loader, "dataset", None), IterableDataset) and not getattr(loader, "num_workers", 0):
            # Lightning reads the next batch early: its numbers are drawn before those of the step, not after them.
            drawn = "if reading a sample draws random numbers"
            yield f"with an IterableDataset and num_workers=0 a resumed run may not be bit-identical, {drawn}"
