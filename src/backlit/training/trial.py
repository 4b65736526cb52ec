"""A Trainer for some steps before the training, which leaves no trace in it."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import lightning
from lightning.pytorch.utilities.seed import isolate_rng

from backlit.config.trainer_flags import trainer_flags
from backlit.training.build import RunParts

# Of the Trainer's arguments, those that shape a step.
_KEPT = ("accelerator", "precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")


@contextlib.contextmanager
def trial_trainer(parts: RunParts, **arguments: Any) -> Iterator[lightning.Trainer]:
    """Yield a Trainer that takes steps as the run's does and writes nothing; at the end, restore the random states.

    Args:
        parts: What the run is made of; fit copies of its model and data.
        arguments: More arguments of the Trainer.
    """
    flags = {name: value for name, value in trainer_flags(parts.config["trainer"]).items() if name in _KEPT}
    silent: dict[str, Any] = dict.fromkeys(
        ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False
    )
    with (
        isolate_rng(),
        tempfile.TemporaryDirectory() as directory,
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),  # the bar of Lightning's tuner does not look for a terminal
    ):
        warnings.simplefilter("ignore")  # hints for whoever has written this Trainer
        yield lightning.Trainer(devices=1, default_root_dir=directory, **flags, **silent, **arguments)
