"""What a run leaves of its results: ``metrics.json`` and ``weights.pth``."""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from backlit.runs.checkpoint import net_weights, read_checkpoint
from backlit.runs.files import atomic_write, write_json


@dataclass
class Results:
    """The final metrics of a run, each with the checkpoint that it belongs to.

    Args:
        run_dir: The run directory; checkpoints in it are named relative to it.
        metrics: Name to value.
        checkpoints: Name to the checkpoint's path, None where the weights were never written.
    """

    run_dir: Path
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoints: dict[str, str | None] = field(default_factory=dict)

    def add(self, metrics: dict[str, float], checkpoint: str | None) -> None:
        """Add metrics of one checkpoint."""
        self.metrics |= metrics
        self.checkpoints |= dict.fromkeys(metrics, self._shorten(checkpoint))

    def _shorten(self, checkpoint: str | None) -> str | None:
        run_dir = self.run_dir.resolve()
        if checkpoint is None or not Path(checkpoint).is_relative_to(run_dir):
            return checkpoint
        return str(Path(checkpoint).relative_to(run_dir))

    @property
    def stage_checkpoints(self) -> dict[str, str | None]:
        """Return the checkpoint that the metrics of each stage belong to: ``train/loss``, ``val_loss``; losses first.

        If no metric is named after a stage, return the checkpoint of each metric.
        """
        last = {name: path for name, path in self.checkpoints.items() if not name.endswith("_best")}
        stages: dict[str, str | None] = {}
        for name in sorted(last, key=lambda name: not name.endswith("loss")):
            if match := re.match(r"(train|val|valid|validation|test)[/_]", name):
                stages.setdefault(match[1], last[name])
        return stages or last

    def write(self, tested: str | None) -> None:
        """Write ``metrics.json`` and, under the names that the network itself has, the tested weights.

        Args:
            tested: The checkpoint that is tested; None if there is none.
        """
        if tested:
            weights = net_weights(read_checkpoint(Path(tested))["state_dict"])
            content = io.BytesIO()  # torch.save's own writer raises a RuntimeError without a reason when a disk is full
            torch.save(weights, content)
            with atomic_write(self.run_dir / "weights.pth") as temporary:
                temporary.write_bytes(content.getbuffer())
        write_json(self.run_dir / "metrics.json", {"metrics": self.metrics, "checkpoint": self.checkpoints})
