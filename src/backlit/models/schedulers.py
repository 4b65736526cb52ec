"""Learning-rate schedules: each function returns a scheduler config for Lightning's ``configure_optimizers``.

They start from the optimizer's ``lr``; their argument is the number of optimizer steps of the whole training.
`torch_schedule` does so with a class of torch.
"""

import bisect
import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from backlit.arguments import Count, FractionBelow1, NonNegative, PartOf1, check_arguments
from backlit.models.metric_mode import usual_mode


class Schedule(lr_scheduler.LRScheduler):
    """A learning rate that depends on nothing but the step and the number of steps.

    A training that is resumed to become longer, or shorter, has the rates of its new length from there on. After the
    last step the rate stays.

    Args:
        optimizer: Each of its parameter groups has its own ``lr``.
        total_steps: The number of optimizer steps of the whole training.
        rate: Returns the learning rate from the group's ``lr``, the number of steps taken, and `total_steps`.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, rate: Callable[[float, int, int], float]) -> None:
        self.total_steps = total_steps
        self.rate = rate
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each parameter group for the next step."""
        step = min(self.last_epoch, self.total_steps)
        return [self.rate(float(lr), step, self.total_steps) for lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps taken."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the steps of a state, with the rates of `total_steps`."""
        self.last_epoch = state_dict["last_epoch"]
        self.set_total_steps(self.total_steps)

    def set_total_steps(self, total_steps: int) -> None:
        """Change the length of the training, and so the learning rate of the next step."""
        self.total_steps = total_steps
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def cosine(optimizer: Optimizer, total_steps: int, *, min_lr: NonNegative = 0.0) -> dict[str, Any]:
    """Return half a cosine from ``lr`` to `min_lr` (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts).

    Raises:
        ValueError: If `min_lr` is negative or above ``lr``.
    """
    check_arguments(cosine, locals())
    lowest = min(group["lr"] for group in optimizer.param_groups)
    if min_lr > lowest:
        raise ValueError(f"min_lr must be <= {lowest:.10g} (optimizer.lr), got {min_lr}")
    return _each_step(Schedule(optimizer, total_steps, partial(_cosine_rate, min_lr=min_lr)))


def _cosine_rate(lr: float, step: int, total_steps: int, *, min_lr: float) -> float:
    return _half_cosine(lr, min_lr, step / total_steps)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_fraction: FractionBelow1 = 0.3,
    div_factor: Annotated[float, Ge(1)] = 25.0,
) -> dict[str, Any]:
    """Return a rise from ``lr / div_factor`` to ``lr`` and a fall to almost 0 (Smith and Topin 2018, arXiv:1708.07120).

    The rates are those of `torch.optim.lr_scheduler.OneCycleLR`; momentum and betas stay as the optimizer has them.

    Raises:
        ValueError: If `warmup_fraction` is not in [0, 1), or `div_factor` is less than 1.
    """
    check_arguments(one_cycle, locals())
    rate = partial(_one_cycle_rate, warmup_fraction=warmup_fraction, div_factor=div_factor)
    return _each_step(Schedule(optimizer, total_steps, rate))


def _one_cycle_rate(lr: float, step: int, total_steps: int, *, warmup_fraction: float, div_factor: float) -> float:
    first = lr / div_factor
    peak, end = warmup_fraction * total_steps - 1, total_steps - 1
    step = min(step, end)
    if step < peak:
        return _half_cosine(first, lr, step / peak)
    return _half_cosine(lr, first / 1e4, (step - peak) / (end - peak) if end > peak else 0.0)


def _half_cosine(start: float, end: float, fraction: float) -> float:
    """Return the value between `start` and `end` at a fraction of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def step(
    optimizer: Optimizer, total_steps: int, *, drops: Annotated[int, Ge(0), Le(1000)] = 2, gamma: PartOf1 = 0.1
) -> dict[str, Any]:
    """Return ``lr`` times `gamma` at each of `drops` points that divide the training evenly.

    Raises:
        ValueError: If `drops` is not in [0, 1000], or `gamma` not in (0, 1].
    """
    check_arguments(step, locals())
    return _each_step(Schedule(optimizer, total_steps, partial(_step_rate, drops=drops, gamma=gamma)))


def _step_rate(lr: float, step: int, total_steps: int, *, drops: int, gamma: float) -> float:
    points = [total_steps * (i + 1) // (drops + 1) for i in range(drops)]
    return lr * gamma ** bisect.bisect_right(points, step)


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    *,
    monitor: str = "val/loss",
    mode: Literal["min", "max"] | None = None,
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1,
    patience: Count = 2,
) -> dict[str, Any]:
    """Return ``lr`` times `factor` when `monitor` has not improved for more than `patience` epochs.

    Raises:
        ValueError: If `factor` is not in (0, 1), or `patience` is negative; if `mode` is None and the name of `monitor`
            does not say which of its values are better.
    """
    check_arguments(plateau, locals())
    arguments: dict[str, Any] = {"monitor": monitor, "mode": mode, "factor": factor, "patience": patience}
    return torch_schedule(optimizer, total_steps, kind=lr_scheduler.ReduceLROnPlateau, **arguments)


def torch_schedule(
    optimizer: Optimizer,
    total_steps: int,
    *,
    kind: type[lr_scheduler.LRScheduler],
    interval: Literal["step", "epoch"] | None = None,
    monitor: str | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Return a scheduler of torch.

    Args:
        optimizer: The optimizer.
        total_steps: The number of optimizer steps of the whole training. It is the scheduler's length, ``T_max`` or
            ``total_steps``, if that is missing or None.
        kind: The scheduler's class.
        interval: What the scheduler counts; None for epochs, but for steps if its length is `total_steps`.
        monitor: The metric of a ``ReduceLROnPlateau``; its ``mode`` is the metric's if it is missing or None.
        arguments: Those of the class.

    Raises:
        ValueError: If the class rejects its arguments; if a length is missing that `interval` counts in epochs; if a
            ``ReduceLROnPlateau`` has no `monitor`, or one whose name does not say which of its values are better.
    """
    lengths = [name for name in ("T_max", "total_steps") if name in inspect.signature(kind).parameters]
    if missing := [name for name in lengths if arguments.get(name) is None]:
        if interval == "epoch":
            raise ValueError(f"interval must be step or null without {missing[0]}, got epoch")
        interval = "step"
        arguments |= dict.fromkeys(missing, total_steps)
    if issubclass(kind, lr_scheduler.ReduceLROnPlateau):
        if monitor is None:
            raise ValueError("monitor must be a metric for ReduceLROnPlateau, val/loss for instance, got null")
        if (mode := arguments.get("mode") or usual_mode(monitor)) is None:
            raise ValueError(f"mode must be min or max for monitor={monitor}, got null")
        arguments["mode"] = mode
    return {"scheduler": kind(optimizer, **arguments), "interval": interval or "epoch", "monitor": monitor}


def _each_step(scheduler: lr_scheduler.LRScheduler) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": "step"}
