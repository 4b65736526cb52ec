"""Checkpoints that are written whole, verified when read, and run no code."""

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.nn import Parameter

from backlit.runs.files import atomic_write
from backlit.runs.torch_file import read_torch_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read.

    Args:
        path: The file.
        content: What it holds: plain data, on the CPU.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Return the checkpoint in a file.

        Raises:
            ValueError: If it is damaged, or no checkpoint.
        """
        return cls(path, read_checkpoint(path))

    def is_of(self, run_dir: Path) -> bool:
        """Return whether the run in a directory has written it."""
        return self.path.parent.resolve() == (run_dir / "checkpoints").resolve()


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return what a checkpoint holds: plain data.

    Raises:
        ValueError: If it is damaged, or no checkpoint.
    """
    content = read_torch_file(path, map_location)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise ValueError(f"{path} must be a checkpoint with a state_dict, but is another program's file")
    return content


def find_last_checkpoint(run_dir: Path) -> Checkpoint | None:
    """Return the checkpoint to resume a run from: ``last.ckpt``, or ``previous.ckpt`` where that is damaged.

    None if the run has none yet.

    Raises:
        ValueError: If none of them can be read.
    """
    problems = []
    for name in ("last", "previous"):
        path = run_dir / "checkpoints" / f"{name}.ckpt"
        if not path.exists():
            continue
        try:
            checkpoint = Checkpoint.read(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("%s; the run resumes from the previous checkpoint, %s", problems[0], path.name)
        return checkpoint
    if problems:
        raise ValueError(f"{problems[0]}, and there is no previous checkpoint that can be read")
    return None


def net_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's weights under the names that the network itself has (``fc1.weight``, …)."""
    net = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
    return net or dict(state)


def find_mismatch(model: LightningModule, state: Mapping[str, Any]) -> str | None:
    """Return the first difference in names, shapes and kinds between a model and weights; None if they fit."""
    own = model.state_dict()
    for name, value in own.items():
        if name not in state:
            return f"the model has {name}, which the checkpoint does not have"
        if not isinstance(value, Tensor):  # a state of its own kind, which the model knows
            continue
        there = state[name]
        if not isinstance(there, Tensor):
            return f"{name} is a tensor in the model, and none in the checkpoint"
        if kind(there) != kind(value):
            return f"{name} is {describe(value)} in the model, {describe(there)} in the checkpoint"
        if there.shape != value.shape:
            return f"{name} has shape {tuple(value.shape)} in the model, {tuple(there.shape)} in the checkpoint"
    more = next((name for name in state if name not in own), None)
    return f"the checkpoint has {more}, which the model does not have" if more is not None else None


def kind(tensor: Tensor) -> tuple[Any, ...]:
    """Return what weights have in common with those that can be copied into them; floats of any precision can."""
    is_float = tensor.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    is_parameter = isinstance(tensor, Parameter) or tensor.requires_grad  # which no state of a module is
    return "float" if is_float else tensor.dtype, tensor.layout, tensor.is_meta, tensor.is_nested, is_parameter


def find_unusual(weights: Mapping[str, Any]) -> str | None:
    """Return the first of a network's weights that is no dense tensor, and what it is; None if all are."""
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            return f"{name} is a {type(value).__name__}"
        if value.layout is not torch.strided or value.is_nested or value.is_meta:
            return f"{name} is {describe(value)}"
    return None


def describe(tensor: Tensor) -> str:
    """Return the dtype of a tensor for a message, and what else is unusual about it."""
    words = [str(tensor.dtype)]
    words += [] if tensor.layout is torch.strided else [str(tensor.layout).removeprefix("torch.")]
    marks = {"meta": tensor.is_meta, "nested": tensor.is_nested, "parameter": isinstance(tensor, Parameter)}
    return " ".join([*words, *(name for name, has in marks.items() if has)])


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and reads them only if they are what was written.

    What ``last.ckpt`` was before is kept as ``previous.ckpt``.

    Args:
        known: A checkpoint that has been read already; it is not read again when it is loaded first.
    """

    def __init__(self, known: Checkpoint | None = None) -> None:
        super().__init__()
        self._known = known
        self._written_to: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: If it cannot be written; the file that was there before is still there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written_to.add(path.parent.resolve())
        content = io.BytesIO()  # torch.save's own writer raises a RuntimeError without a reason when a disk is full
        torch.save(checkpoint, content)
        previous = path.with_name("previous.ckpt") if path.name == "last.ckpt" else None
        with atomic_write(path, previous) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what a checkpoint holds, plain data.

        Raises:
            ValueError: If it is damaged, or no checkpoint.
        """
        known, self._known = self._known, None
        if known is not None and Path(path) == known.path:
            return known.content
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file from a directory that a checkpoint has been written to.

        Lightning's own removes directories as well, and whatever another file system has under a URL.
        """
        path = Path(path)
        if path.parent.resolve() in self._written_to and path.is_file():
            path.unlink(missing_ok=True)
