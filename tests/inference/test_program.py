"""Programs of modules that are not backlit's."""

from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor, nn

from backlit.inference.program import Format, write_program
from backlit.inference.stored_inputs import StoredInputs


class SaysFloat32(lightning.LightningModule):
    """Makes its inputs float32 itself, as many do: it cannot be computed in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layer(inputs.float().flatten(1) / 255)
        return out

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)


@pytest.mark.parametrize("format", ["torch_export", "onnx"])
def test_a_module_that_says_float32_itself_has_a_program(format: Format, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, stored = SaysFloat32(), StoredInputs((1, 2, 2), torch.uint8)
    written = write_program(model, lightning.LightningDataModule(), stored, format, tmp_path / "program")
    weight, bias = model.layer.weight.detach(), model.layer.bias.detach()
    expected = (written.inputs.flatten(1).float() / 255 @ weight.T + bias).softmax(1)
    assert written.inputs.dtype == torch.uint8
    torch.testing.assert_close(written.outputs, expected)
    assert written.difference <= 1e-6
