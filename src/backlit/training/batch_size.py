"""``scale_batch_size``: how many samples a second batches of growing size train."""

import contextlib
import copy
import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.data import extract_batch_size

from backlit.plots.batch_sizes import draw_batch_sizes
from backlit.plots.image import png, render
from backlit.runs.files import atomic_write
from backlit.text import shell_path
from backlit.training.build import RunParts
from backlit.training.lean_loop import use_lean_loop
from backlit.training.trial import trial_trainer

log = logging.getLogger(__name__)

_SMALLEST, _LARGEST = 8, 2**20
_MOST_STEPS, _WARM_UP, _SECONDS, _SLOW_STEP = 200, 3, 0.3, 0.5
_ENOUGH, _DISTURBED = 0.95, 1.5


def suggest_batch_size(parts: RunParts) -> None:
    """Draw ``plots/scale_batch_size.png`` and log the smallest batch that trains nearly as fast as any.

    Lightning's tuner doubles the batch until the memory is full. That is not the fastest batch, and on a CPU it ends
    the process. Here doubling ends as well when the samples are used up, when a step takes half a second, or when two
    doublings in a row bring less than a twentieth. All sizes are measured three times; nothing is suggested if the two
    best differ. The steps are taken by copies: the run trains as without.
    """
    first = _measure_growing(parts)
    if not first:
        log.warning("scale_batch_size: a batch of %d is too large, so there is no suggestion", _SMALLEST)
        return
    rounds = [first, *({size: _take_steps(parts, size).samples_per_second() for size in first} for _ in range(2))]
    best = {size: sorted((speeds[size] for speeds in rounds), reverse=True)[:2] for size in first}
    speeds = {size: speed for size, (speed, _) in best.items()}
    for size, speed in speeds.items():
        log.info("scale_batch_size: data.batch_size=%-6d %12s samples/s", size, f"{speed:,.0f}")
    factor, size = max((speed / second, size) for size, (speed, second) in best.items())
    if factor > _DISTURBED:
        log.warning(
            "scale_batch_size: data.batch_size=%d takes %.1f times as long when it is measured again, as the machine "
            "has other work: there is no suggestion",
            *(size, factor),
        )
        return
    suggested = smallest_enough(speeds)
    path = parts.run_dir / "plots" / "scale_batch_size.png"
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(png(render(draw_batch_sizes(speeds, suggested))))
    log.info(
        "scale_batch_size: data.batch_size=%d is the smallest with %.0f %% of the most samples/s: %s",
        *(suggested, 100 * _ENOUGH, shell_path(path)),
    )


def smallest_enough(speeds: Mapping[int, float]) -> int:
    """Return the smallest batch size whose samples per second are at least 95 % of the most.

    Args:
        speeds: Batch sizes to samples per second.
    """
    return min(size for size, speed in speeds.items() if speed >= _ENOUGH * max(speeds.values()))


def _measure_growing(parts: RunParts) -> dict[int, float]:
    """Return samples per second by batch size, in growing order."""
    speeds: dict[int, float] = {}
    size = _SMALLEST
    while size <= _LARGEST:
        try:
            clock = _take_steps(parts, size)
        except torch.OutOfMemoryError:
            break
        if max(clock.samples, default=0) < size or not clock.is_warm:
            break
        speeds[size] = clock.samples_per_second()
        last = [*speeds.values()][-3:]
        if clock.is_slow or (len(last) == 3 and _ENOUGH * max(last[1:]) < last[0]):
            break
        size *= 2
    return speeds


def _take_steps(parts: RunParts, size: int) -> "_Clock":
    """Train copies with batches of a size for a moment."""
    clock = _Clock()
    datamodule: Any = copy.deepcopy(parts.datamodule)
    datamodule.batch_size = size
    if hasattr(datamodule, "passes_per_epoch"):
        datamodule.passes_per_epoch = 1  # else a batch may have a sample twice
    arguments: dict[str, Any] = {"max_epochs": -1, "max_steps": _MOST_STEPS, "limit_val_batches": 0}
    with trial_trainer(parts, **arguments, callbacks=[clock]) as trainer:
        if parts.config["lean_loop"]:
            use_lean_loop(trainer)
        with contextlib.suppress(FloatingPointError):  # the loss is not what is asked
            trainer.fit(copy.deepcopy(parts.model), datamodule)
    return clock


class _Clock(lightning.Callback):
    """Notes when each step has ended and with how many samples; ends the training after a moment."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.samples: list[int] = []

    @property
    def is_warm(self) -> bool:
        """Whether there are steps beyond the first few, which are slower."""
        return len(self.ends) > _WARM_UP

    @property
    def is_slow(self) -> bool:
        """Whether a larger batch would take long, and much memory."""
        return self.ends[-1] - self.ends[-2] > _SLOW_STEP

    def samples_per_second(self) -> float:
        """Return those of the fastest step: what else the machine does makes steps slower, never faster."""
        steps = range(_WARM_UP, len(self.ends))
        return 1 / min((self.ends[i] - self.ends[i - 1]) / self.samples[i] for i in steps)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time, once the device has done its work."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(perf_counter())
        self.samples.append(extract_batch_size(batch))
        if self.is_warm and self.ends[-1] - self.ends[_WARM_UP - 1] > _SECONDS:
            trainer.should_stop = True
