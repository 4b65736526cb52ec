"""The files that export writes, read back and checked, and what is reported of them."""

import io
from pathlib import Path

import torch
from torch import Tensor

from backlit.inference.program import Format, write_program
from backlit.inference.stored_inputs import StoredInputs
from backlit.load import LoadedRun


def write_weights_file(weights: dict[str, Tensor], temporary: Path, output: Path) -> dict[str, str]:
    """Write weights to `temporary`, read them back, and return what to report.

    Raises:
        RuntimeError: If they are not the same, bit for bit.
    """
    buffer = io.BytesIO()  # torch's own writer does not say that a disk is full
    torch.save(weights, buffer)
    temporary.write_bytes(buffer.getvalue())
    read = torch.load(temporary, weights_only=True)
    if not (read.keys() == weights.keys() and all(torch.equal(read[name], weights[name]) for name in weights)):
        raise RuntimeError("the weights that were read back differ from the checkpoint's")
    shapes = [f"{name} {tuple(value.shape)}" for name, value in weights.items()]
    listed = ", ".join(shapes if len(shapes) <= 6 else [*shapes[:6], "…"])
    dtypes = ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in weights.values()}))
    return {
        "holds": f"{listed}; {dtypes}",
        "note": "the network alone: normalising inputs and making probabilities of outputs is left to you",
        "checked": "read back, the largest difference is 0",
        "load it": f"import torch; state = torch.load({str(output)!r}, weights_only=True)",
    }


def write_program_file(
    run: LoadedRun, stored: StoredInputs, format: Format, temporary: Path, output: Path
) -> dict[str, str]:
    """Write the whole program to `temporary`, check it, and return what to report.

    Raises:
        RuntimeError: If its probabilities are not the network's.
    """
    written = write_program(run.model, run.datamodule, stored, format, temporary)
    inputs, outputs = written.inputs, written.outputs
    kind, result = (str(tensor.dtype).removeprefix("torch.") for tensor in (inputs, outputs))
    sizes, result_sizes = (str(("batch", *tensor.shape[1:])).replace("'", "") for tensor in (inputs, outputs))
    values = "pixels, 0 to 255, not normalised" if inputs.dtype == torch.uint8 else "as the data set stores them"
    classes = "class 1" if outputs.ndim == 1 else "each class"
    name, zeros = repr(str(output)), f"zeros({(3, *inputs.shape[1:])}, dtype="
    if format == "torch_export":
        line = f"import torch; print(torch.export.load({name}).module()(torch.{zeros}torch.{kind})))"
    else:
        call = f"run(None, {{'inputs': numpy.{zeros}{kind!r})}})[0]"
        line = f"import numpy, onnxruntime; print(onnxruntime.InferenceSession({name}).{call})"
    return {
        "takes": f"inputs {sizes}, {kind}, {values}; any batch size",
        "gives": f"probabilities {result_sizes}, {result}, 0 to 1, of {classes}",
        "checked": f"read back, the largest difference is {written.difference:.1g} for {len(inputs)} random inputs",
        "load it": line,
    }
