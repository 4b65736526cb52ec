from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from backlit.training.accumulation import PartialAccumulation


class Linear(lightning.LightningModule):
    """A module that knows nothing of backlit."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def loss(self, inputs: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.layer(inputs).square().mean()
        return loss

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.loss(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers", "ignore:`isinstance.treespec, LeafSpec.` is deprecated"
)
@pytest.mark.parametrize("clip", [None, 0.05])
def test_the_last_step_follows_the_mean_gradient_of_its_batches(clip: float | None, tmp_path: Path) -> None:
    inputs = torch.randn(20, 3)
    module, plain = Linear(), Linear()
    plain.load_state_dict(module.state_dict())
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        accumulate_grad_batches=4,
        gradient_clip_val=clip,
        callbacks=[PartialAccumulation()],
        enable_checkpointing=False,
        **quiet,
    )
    trainer.fit(module, DataLoader(TensorDataset(inputs), 4))
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    for samples in (inputs[:16], inputs[16:]) * 2:
        optimizer.zero_grad()
        plain.loss(samples).backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), clip)
        optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.allclose(module.state_dict()[name], value, atol=1e-6)
