"""``init_from``: the weights of another run with which a new run starts, where its network has such weights."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric

from backlit.runs.checkpoint import describe, kind, read_checkpoint
from backlit.runs.find import find_run
from backlit.text import shell_path

log = logging.getLogger(__name__)

_MOST_LISTED = 6


@dataclass(frozen=True)
class InitialWeights:
    """Weights of another run that fit a network.

    Args:
        file: The checkpoint that has them.
        matching: Those whose name and shape are the network's.
        others: The network's other weights, each with the reason why it keeps what the seed has given it.
    """

    file: Path
    matching: dict[str, Tensor]
    others: dict[str, str]

    @classmethod
    def find(cls, source: str, model: LightningModule) -> "InitialWeights":
        """Return those of a run directory, its best checkpoint's, or of a checkpoint.

        Raises:
            ValueError: If there is no such run or checkpoint, if it cannot be read, or if no weight fits.
        """
        if not Path(source).exists():
            raise ValueError(f"init_from must be a run directory or a checkpoint, got {source}, which does not exist")
        try:
            file = Path(source) if Path(source).is_file() else find_run(source)[1]
            there = read_checkpoint(file)["state_dict"]
        except ValueError as error:
            raise ValueError(f"init_from must be a run directory or a checkpoint: {error}") from None
        metrics = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, Metric))
        own = {name: value for name, value in model.state_dict().items() if not name.startswith(metrics)}
        matching, others = {}, {}
        for name, value in own.items():
            found = there.get(name)
            if not isinstance(found, Tensor):
                others[name] = f"{name} {tuple(value.shape)}: {file.name} does not have it"
            elif kind(found.detach()) != kind(value):
                others[name] = f"{name} {describe(value)}: {file.name} has {describe(found)}"
            elif found.shape != value.shape:
                others[name] = f"{name} {tuple(value.shape)}: {file.name} has {tuple(found.shape)}"
            else:
                matching[name] = found.detach()
        if not any(value.numel() for value in matching.values()):
            reason = next(iter(others.values()), "the network has no weights")
            raise ValueError(f"init_from must have weights of the network's names and shapes, got {source}: {reason}")
        if broken := next((name for name, value in matching.items() if not torch.isfinite(value).all()), None):
            raise ValueError(f"init_from must have finite weights, got {file}: {broken} has nan or infinity")
        return cls(file, matching, others)

    def load(self, model: LightningModule) -> None:
        """Copy them into a network of the same names and shapes, in its precision."""
        model.load_state_dict(self.matching, strict=False)

    def report(self) -> None:
        """Log where they come from, and which weights of the network are new."""
        count, total = len(self.matching), len(self.matching) + len(self.others)
        log.info("starts with weights of %s: %d of the network's %d tensors", shell_path(self.file), count, total)
        for line in list(self.others.values())[:_MOST_LISTED]:
            log.info("  new: %s", line)
        if len(self.others) > _MOST_LISTED:
            log.info("  new: %d more", len(self.others) - _MOST_LISTED)
