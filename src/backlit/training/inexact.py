"""What makes a run resume inexactly: parts that keep a state which is in no checkpoint."""

from collections.abc import Iterator

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BaseFinetuning, BatchSizeFinder, LearningRateFinder, ModelPruning

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
    if any(getattr(loader, "persistent_workers", False) for loader in lightning_internals.train_loaders(trainer)):
        yield "with persistent_workers=True a resumed run may differ: no checkpoint has the workers' random generators"
