"""The lean loop and Lightning's own do the same: the same weights, counters, hooks, records."""

from typing import Any

import lightning
import pytest
import torch

from backlit.data import PointsDataModule
from backlit.models import BinaryClassifier, schedulers
from backlit.training.lean_loop import LeanTrainingEpochLoop, use_lean_loop

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers",
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:`training_step` returned `None`",
    "ignore:The number of training batches .* is smaller than the logging interval",
)

HOOKS = [
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_train_epoch_end",
]


class Witness(lightning.Callback):
    """Writes down every hook with the counters and the metrics of the moment."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def _note(self, hook: str, trainer: lightning.Trainer, extra: Any = None) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        bar = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        loop = trainer.fit_loop.epoch_loop
        self.seen.append(
            (
                hook,
                trainer.global_step,
                trainer.current_epoch,
                loop.batch_idx,
                loop.batch_progress.state_dict(),
                extra,
                metrics,
                bar,
            )
        )


for hook in HOOKS:

    def noted(self: Witness, trainer: lightning.Trainer, module: Any, *arguments: Any, hook: str = hook) -> None:
        extra = arguments[0]["loss"].item() if hook == "on_train_batch_end" and arguments[0] else None
        self._note(hook, trainer, extra)

    setattr(Witness, hook, noted)


class Busy(BinaryClassifier):
    """A module with hooks of its own that logs at every step and stops an epoch early."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if self.current_epoch == 1 and batch_idx == 5 else None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        norm = torch.stack([p.grad.norm() for p in self.parameters() if p.grad is not None]).norm()
        self.log("gradient_norm", norm, prog_bar=True, on_step=True, on_epoch=True)


class Skips(BinaryClassifier):
    """A module that has nothing to learn from every third batch, and says more than its loss."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 2 else {"loss": loss, "more": 1}


def fitted(lean: bool, module_class: type[BinaryClassifier], **arguments: Any) -> tuple[Any, ...]:
    lightning.seed_everything(0, verbose=False)
    module = module_class(
        dropout=0.2,
        hidden_sizes=[8],
        optimizer=lambda parameters: torch.optim.Adam(parameters, 0.01),
        scheduler=schedulers.cosine,
    )
    witness = Witness()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[witness],
        **{"max_epochs": 3, "log_every_n_steps": 4} | arguments,
    )
    if lean:
        use_lean_loop(trainer)
    trainer.fit(module, datamodule=PointsDataModule(train_size=40, batch_size=7, passes_per_epoch=2, val_size=20))
    return module.state_dict(), witness.seen, trainer.fit_loop.state_dict(), trainer


@pytest.mark.parametrize("module_class", [BinaryClassifier, Busy, Skips])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_steps": 17},
        {"val_check_interval": 4},
        {"val_check_interval": 5, "check_val_every_n_epoch": None},
        {"limit_train_batches": 3, "check_val_every_n_epoch": 2},
        {"accumulate_grad_batches": 2},
        {"gradient_clip_val": 0.1},
        {"precision": "bf16-mixed"},
        {"num_sanity_val_steps": 0, "limit_val_batches": 0},
    ],
    ids=lambda arguments: "-".join(arguments) or "plain",
)
def test_the_lean_loop_is_lightnings_loop(module_class: type[BinaryClassifier], arguments: dict[str, Any]) -> None:
    weights, seen, state, trainer = fitted(True, module_class, **arguments)
    own_weights, own_seen, own_state, _ = fitted(False, module_class, **arguments)
    assert isinstance(trainer.fit_loop.epoch_loop, LeanTrainingEpochLoop)
    plain = not {"accumulate_grad_batches", "gradient_clip_val", "precision"} & set(arguments)
    assert trainer.fit_loop.epoch_loop._is_plain == plain
    assert seen == own_seen
    assert state == own_state
    assert all(torch.equal(weights[name], own_weights[name]) for name in own_weights)


def test_a_module_with_its_own_step_gets_lightnings_loop() -> None:
    class OwnStep(BinaryClassifier):
        def optimizer_step(self, *arguments: Any, **more: Any) -> None:
            super().optimizer_step(*arguments, **more)

    *_, trainer = fitted(True, OwnStep)
    assert not trainer.fit_loop.epoch_loop._is_plain
