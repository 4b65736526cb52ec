"""``backlit-export``: writes what a run has learned as one file for other programs."""

import copy
import importlib.util
import io
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from backlit.entry import command, quiet_lightning
from backlit.run import ConfigError, from_here, whole_file

if TYPE_CHECKING:
    from torch import Tensor

    from backlit.load import LoadedRun

log = logging.getLogger(__name__)

SUFFIXES = {"state_dict": ".pth", "torch_export": ".pt2", "onnx": ".onnx"}


class ExportError(RuntimeError):
    """The file could not be written, or does not compute what the network computes; there is no file."""


def main() -> None:
    """Run ``backlit-export``."""
    command(_task, "export")


def _task(cfg: DictConfig) -> None:
    """Export; tell in one line what went wrong, and exit with code 1."""
    try:
        export(cfg)
    except ExportError as error:
        sys.exit(f"error: {error}")


def export(cfg: DictConfig) -> Path:
    """Write a run's network as one file, read the file back, check it, and return its path.

    - ``state_dict``: the network's weights alone, as `torch.save` writes them, under the network's own names
      (``fc1.weight``, …) and in the dtype that they have. No code of the run is needed. Normalisation and softmax or
      sigmoid are not in it.
    - ``torch_export`` and ``onnx``: a whole program, from inputs as the data set stores them to probabilities, so that
      nobody who uses it elsewhere can forget normalisation. It has one input, ``inputs``, of shape
      ``(batch, *input_shape)`` with any batch size: uint8 pixels, 0 to 255, for MNIST and its relatives, otherwise
      floats of the dtype in which it computes. It has one output, ``probabilities``, what the model's `probabilities`
      gives: ``(batch, num_classes)``, or ``(batch,)`` for class 1 of two. It computes in float32, or in float64 if the
      run did; the weights of a run in half precision are the same numbers in float32.

    Args:
        cfg: What ``conf/export.yaml`` composes to.

    Raises:
        ConfigError: If there is no such run or format, if the run's model does not suit the format, if the output
            cannot be written or has a default name that is taken, or if packages are missing.
        ExportError: If the file could not be written or read back, or does not compute the same. It is removed then;
            a file that was there before stays.
    """
    if cfg.format not in SUFFIXES:
        raise ConfigError([f"format must be one of {', '.join(SUFFIXES)}, got {cfg.format}"])
    needed = ("onnx", "onnxscript", "onnxruntime") if cfg.format == "onnx" else ()
    if not all(importlib.util.find_spec(name) for name in needed):
        raise ConfigError(["format=onnx needs pip install 'backlit[onnx]'"])

    from backlit.load import check_named, find_run, load_named, read_checkpoint, read_config
    from backlit.models import Classifier

    quiet_lightning()
    check_named(cfg)
    # These tell at level INFO what they do to a graph.
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        if cfg.format == "state_dict":
            directory, checkpoint = find_run(str(cfg.run), cfg.checkpoint)
            config, state = read_config(directory), read_checkpoint(checkpoint)["state_dict"]
        else:
            run = load_named(cfg)
            checkpoint, config = run.checkpoint, run.config
            rule = f"for format={cfg.format} (format=state_dict takes any)"
            if not isinstance(run.model, Classifier):
                raise ValueError(f"model must be a backlit.models.Classifier {rule}, got {type(run.model).__name__}")
            if not (hasattr(run.datamodule, "input_shape") and hasattr(run.datamodule, "prepare_inputs")):
                raise ValueError(f"data must be an InMemoryDataModule {rule}, got {type(run.datamodule).__name__}")
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    output = _output(cfg, config)
    try:
        with whole_file(output) as temporary:
            if cfg.format == "state_dict":
                facts = _write_weights(state, temporary, output)
            else:
                facts = _write_program(run, cfg.format, temporary, output)
    except OSError as error:
        raise ConfigError([f"output must be a file that can be written, got {output}: {error.strerror}"]) from None
    except Exception as error:  # whatever tracing somebody's network, or writing and reading it, makes torch raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"{output} was not written as {cfg.format}: {reason[0]}") from error
    facts = {"file": f"{from_here(output)}, {output.stat().st_size:,} bytes", "from": from_here(checkpoint)} | facts
    log.info("\n".join(f"  {name:<9} {fact}" for name, fact in facts.items()))
    return output


def _output(cfg: DictConfig, config: DictConfig) -> Path:
    """Return the path to write to.

    Raises:
        ConfigError: If it cannot be written, or if nobody has asked for a file that is there to be replaced.
    """
    suffix = SUFFIXES[cfg.format]
    # The run may be somebody else's: its task_name must not lead out of the working directory.
    output = Path(Path(str(config.get("task_name", "model"))).name + suffix if cfg.output is None else str(cfg.output))
    if cfg.output is None and output.exists():
        raise ConfigError([f"{output} is there already; give output=... (output={output} replaces it)"])
    if output.is_dir():
        raise ConfigError([f"output must be a file, got {output}, which is a directory"])
    if cfg.format == "torch_export" and output.suffix != suffix:
        raise ConfigError([f"output must end in {suffix} for format=torch_export (torch wants it), got {output}"])
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        problem = f"output must be in a directory that can be written, got {output}: {error.strerror}"
        raise ConfigError([problem]) from None
    return output


def _write_weights(state: "dict[str, Tensor]", temporary: Path, output: Path) -> dict[str, str]:
    """Write the weights of a checkpoint to `temporary`, read them back, and return what is to be told.

    Raises:
        RuntimeError: If they are not the same, bit for bit.
    """
    import torch

    from backlit.load import net_weights

    weights = net_weights(state)
    buffer = io.BytesIO()  # torch's own writer has no words for a full disk
    torch.save(weights, buffer)
    temporary.write_bytes(buffer.getvalue())
    read = torch.load(temporary, weights_only=True)
    if not (read.keys() == weights.keys() and all(torch.equal(read[name], weights[name]) for name in weights)):
        raise RuntimeError("the weights that were read back differ from the checkpoint's")
    first = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(weights.items())[:6])
    dtypes = ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in weights.values()}))
    return {
        "holds": f"{first}{', …' * (len(weights) > 6)}; {dtypes}",
        "note": "the network alone: normalising inputs and making probabilities of outputs is left to you",
        "checked": "read back, the largest difference is 0",
        "load it": f"import torch; state = torch.load({str(output)!r}, weights_only=True)",
    }


def _write_program(run: "LoadedRun", format: str, temporary: Path, output: Path) -> dict[str, str]:
    """Write the whole program to `temporary`, read it back, and return what is to be told.

    Raises:
        RuntimeError: If its probabilities are not the network's.
    """
    import torch
    from torch import Tensor, nn

    from backlit.data import MNISTDataModule
    from backlit.models import Classifier

    data: Any = run.datamodule

    class WholeProgram(nn.Module):
        def __init__(self, model: Classifier, dtype: torch.dtype) -> None:
            super().__init__()
            self.model = model.to(dtype).requires_grad_(False)
            self.dtype = dtype

        def forward(self, inputs: Tensor) -> Tensor:
            """Return probabilities ``(b, ...)`` for stored inputs ``(b, *input_shape)``."""
            return self.model.probabilities(self.model(data.prepare_inputs(inputs, self.dtype)))

    assert isinstance(run.model, Classifier)
    dtype = torch.promote_types(next(run.model.parameters()).dtype, torch.float32)
    shape, is_pixels = data.input_shape, isinstance(data, MNISTDataModule)
    exact = WholeProgram(copy.deepcopy(run.model), torch.float64).eval()
    program = WholeProgram(run.model, dtype).eval()
    random = torch.Generator().manual_seed(0)
    example, *others = [
        torch.randint(256, (size, *shape), dtype=torch.uint8, generator=random)
        if is_pixels
        else torch.rand(size, *shape, dtype=dtype, generator=random) * 2 - 1
        for size in (2, 1, 64)
    ]
    dynamic = {"inputs": {0: torch.export.Dim("batch")}}
    # A run with model.compile=true would compile its network now, for a handful of calls.
    with torch.compiler.set_stance("force_eager"):
        expected = torch.cat([program(inputs) for inputs in others])
        rounding = (torch.cat([exact(inputs) for inputs in others]) - expected).abs().max().item()
        if format == "torch_export":
            exported = torch.export.export(program, (example,), dynamic_shapes=dynamic)
            for node in exported.graph.nodes:
                node.meta.pop("stack_trace", None)  # who is given the file need not know this machine's directories
            buffer = io.BytesIO()  # the name of a file would have to end in .pt2
            torch.export.save(exported, buffer)
            temporary.write_bytes(buffer.getvalue())
            read = torch.export.load(io.BytesIO(temporary.read_bytes())).module()
            got = torch.cat([read(inputs) for inputs in others])
        else:
            import onnxruntime

            names: Any = {"input_names": ["inputs"], "output_names": ["probabilities"], "dynamic_shapes": dynamic}
            written = torch.onnx.export(program, (example,), dynamo=True, verbose=False, **names)
            assert written is not None
            for node in written.model.graph:
                node.metadata_props.clear()  # here, too
            written.save(temporary)
            session = onnxruntime.InferenceSession(temporary)
            outputs = [session.run(None, {"inputs": inputs.numpy()})[0] for inputs in others]
            got = torch.cat([torch.from_numpy(output) for output in outputs])
    difference = (got - expected).abs().max().item()
    # Where logits are in the hundreds, float32 itself gives no probability to 1e-6: how much, float64 tells.
    allowed = max(1e-6, 10 * rounding)
    if not difference <= allowed:
        raise RuntimeError(
            f"read back, its probabilities must be the network's to {allowed:.1g}, but differ by {difference:.1g}"
        )
    kind, result = (str(tensor.dtype).removeprefix("torch.") for tensor in (example, got))
    sizes, outcome = (str(("batch", *rest)).replace("'", "") for rest in (shape, got.shape[1:]))
    stored = "pixels, 0 to 255" if is_pixels else "as the data set has them"
    name, zeros = repr(str(output)), f"zeros({(3, *shape)}, dtype="
    if format == "torch_export":
        line = f"import torch; print(torch.export.load({name}).module()(torch.{zeros}torch.{kind})))"
    else:
        run_it = f"run(None, {{'inputs': numpy.{zeros}{kind!r})}})[0]"
        line = f"import numpy, onnxruntime; print(onnxruntime.InferenceSession({name}).{run_it})"
    return {
        "takes": f"inputs {sizes}, {kind}, {stored}, not normalised; any batch size",
        "gives": f"probabilities {outcome}, {result}, 0 to 1, of {'class 1' if got.ndim == 1 else 'each class'}",
        "checked": f"read back, the largest difference is {difference:.1g} for {len(others[-1])} random inputs",
        "load it": line,
    }


if __name__ == "__main__":
    main()
