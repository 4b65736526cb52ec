"""A whole program, from inputs as the data set stores them to probabilities, as one file for other software."""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from backlit.inference.stored_inputs import StoredInputs
from backlit.models.probabilities import probabilities

Format = Literal["torch_export", "onnx"]


class WholeProgram(nn.Module):
    """Preparation, network and probabilities in one module.

    Args:
        model: The network; it is converted in place.
        datamodule: Prepares the inputs.
        dtype: The dtype of the computation.
    """

    def __init__(self, model: LightningModule, datamodule: object, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model.to(dtype).requires_grad_(False)
        self.datamodule = datamodule

    def forward(self, inputs: Tensor) -> Tensor:
        """Return probabilities ``(b, ...)`` for stored inputs ``(b, *input_shape)``."""
        return probabilities(self.model, self.datamodule, inputs)


@dataclass(frozen=True)
class WrittenProgram:
    """The check of a written program.

    Args:
        inputs: Random inputs ``(n, *input_shape)``, in the program's input dtype.
        outputs: The probabilities ``(n, ...)`` that the program returns for them after it is read back.
        difference: The largest difference between these and the network's probabilities.
    """

    inputs: Tensor
    outputs: Tensor
    difference: float


def write_program(
    model: LightningModule, datamodule: object, stored: StoredInputs, format: Format, path: Path
) -> WrittenProgram:
    """Write the whole program to a file, read it back and compare its probabilities with the network's.

    Args:
        model: The network; it is converted in place to the dtype of the program, float32 or wider.
        datamodule: Prepares the inputs.
        stored: Shape and dtype of a sample.
        format: ``torch_export`` or ``onnx``.
        path: The file, which is replaced.

    Raises:
        RuntimeError: If the program's probabilities differ from the network's.
    """
    dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    exact = WholeProgram(copy.deepcopy(model), datamodule, torch.float64).eval()
    program = WholeProgram(model, datamodule, dtype).eval()
    example, *others = _random_inputs(stored, dtype, sizes=(2, 1, 64 if stored.size < 100_000 else 3))
    write = _write_torch_export if format == "torch_export" else _write_onnx
    # With model.compile=true the network would be compiled now, for a handful of calls.
    with torch.compiler.set_stance("force_eager"):
        expected = torch.cat([program(inputs) for inputs in others])
        try:
            rounding = (torch.cat([exact(inputs) for inputs in others]) - expected).abs().max().item()
        except RuntimeError:  # a module that says float32 itself cannot be computed in float64
            rounding = 0.0
        read = write(program, example, path)
        outputs = torch.cat([read(inputs) for inputs in others])
    difference = (outputs - expected).abs().max().item()
    # If logits are in the hundreds, float32 is less accurate than 1e-6; float64 shows its error.
    allowed = max(1e-6, 10 * rounding)
    if not difference <= allowed:
        raise RuntimeError(
            f"read back, its probabilities must be the network's to {allowed:.1g}, but differ by {difference:.1g}"
        )
    return WrittenProgram(others[-1], outputs[-len(others[-1]) :], difference)


def _random_inputs(stored: StoredInputs, dtype: torch.dtype, sizes: tuple[int, ...]) -> list[Tensor]:
    """Return batches of random inputs as the data set stores them: uint8 pixels, other integers 0 or 1, or floats.

    Floats, from -1 to 1, have the dtype of the computation.
    """
    random = torch.Generator().manual_seed(0)
    if stored.dtype is not None and not stored.dtype.is_floating_point:
        most = 256 if stored.dtype == torch.uint8 else 2
        return [torch.randint(most, (size, *stored.shape), generator=random).to(stored.dtype) for size in sizes]
    return [torch.rand(size, *stored.shape, dtype=dtype, generator=random) * 2 - 1 for size in sizes]


def _dynamic_shapes() -> dict[str, Any]:
    return {"inputs": {0: torch.export.Dim("batch")}}


def _write_torch_export(program: WholeProgram, example: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the program in PyTorch's format, and return the program that is read back."""
    exported = torch.export.export(program, (example,), dynamic_shapes=_dynamic_shapes())
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # the file must not name the directories of this machine
    buffer = io.BytesIO()  # the name of a file would have to end in .pt2
    torch.export.save(exported, buffer)
    path.write_bytes(buffer.getvalue())
    read: Callable[[Tensor], Tensor] = torch.export.load(io.BytesIO(path.read_bytes())).module()
    return read


def _write_onnx(program: WholeProgram, example: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the program in the ONNX format, and return the program that ONNX Runtime reads back."""
    import onnxruntime

    names: Any = {"input_names": ["inputs"], "output_names": ["probabilities"]}
    written = torch.onnx.export(
        program, (example,), dynamo=True, verbose=False, dynamic_shapes=_dynamic_shapes(), **names
    )
    assert written is not None
    for node in written.model.graph:
        node.metadata_props.clear()  # they name the directories of this machine
    written.save(path)
    session = onnxruntime.InferenceSession(path)
    return lambda inputs: torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])
