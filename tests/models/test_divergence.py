from types import SimpleNamespace
from typing import Any

import pytest
import torch

from backlit.models.divergence import finite_losses


def model(*, dtype: torch.dtype = torch.float32, optimizers: int = 1, accumulate: int = 1) -> Any:
    """Stand in for a module at step 10 of epoch 2, trained with a learning rate of 0.5."""
    made = [SimpleNamespace(param_groups=[{"lr": 0.5}])] * optimizers
    trainer = SimpleNamespace(optimizers=made, accumulate_grad_batches=accumulate)
    return SimpleNamespace(dtype=dtype, trainer=trainer, global_step=10, current_epoch=2)


def losses(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value) for value in values]


def test_finite_losses_become_one_tensor() -> None:
    assert finite_losses(model(), "train/loss", losses(1.0, 2.0)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train/loss", {}, "train/loss is nan at step 8, epoch 2; try a smaller optimizer.lr (now 0.5) or trainer."),
        ("train/loss", {"accumulate": 2}, "train/loss is nan at step 9, epoch 2; try a smaller optimizer.lr"),
        ("val/loss", {}, "val/loss is nan at step 10, epoch 2; try a smaller"),
        ("train/loss", {"dtype": torch.float16}, "train/loss is nan at step 8, epoch 2; float16 ends at 65504"),
    ],
)
def test_the_first_loss_that_is_not_finite_is_reported(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FloatingPointError) as error:
        finite_losses(model(**arguments), name, losses(1.0, float("nan"), float("inf"), 2.0))
    assert str(error.value).startswith(message)


def test_a_test_without_an_optimizer_gives_no_advice() -> None:
    with pytest.raises(FloatingPointError, match=r"^test/loss is inf at step 10, epoch 2$"):
        finite_losses(model(optimizers=0), "test/loss", losses(float("inf")))
