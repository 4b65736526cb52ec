from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from backlit.callbacks import EpochLines, ProgressBar
from tests.helpers.plain import PlainData, PlainModule


class Watch(lightning.Callback):
    """Notes the names of the epochs in the bar, and saves a checkpoint in the second."""

    def __init__(self, bar: ProgressBar, path: Path) -> None:
        self.bar, self.path, self.names = bar, path, dict[str, None]()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        assert self.bar.progress is not None
        self.names |= dict.fromkeys(task.description.strip() for task in self.bar.progress.tasks[:1])
        if trainer.current_epoch == 1 and not trainer.is_last_batch:
            trainer.save_checkpoint(self.path)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:You're resuming from a checkpoint that ended",
    "ignore:The '.*_dataloader' does not have many workers",
    "ignore:The number of training batches .* is smaller than the logging interval",
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning 2.6 beside torch 2.14
)
def test_the_bar_counts_epochs_as_the_lines_do_also_in_a_resumed_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    shown = []
    for start in (None, tmp_path / "within.ckpt"):
        bar = ProgressBar()
        watch = Watch(bar, tmp_path / "within.ckpt")
        quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=3, num_sanity_val_steps=0, callbacks=[bar, watch, EpochLines()], **quiet
        )
        caplog.clear()
        model = PlainModule(partial(torch.optim.SGD, lr=0.1))
        trainer.fit(model, PlainData(), ckpt_path=start, weights_only=True if start else None)
        lines = [line.split("  ")[0] for line in caplog.messages if line.startswith("epoch")]
        shown.append((list(watch.names), lines))
    assert shown == [(["epoch 1/3", "epoch 2/3", "epoch 3/3"],) * 2, (["epoch 2/3", "epoch 3/3"],) * 2]
