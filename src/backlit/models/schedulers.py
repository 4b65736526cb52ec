"""Learning-rate schedules: each function returns a scheduler config for Lightning's ``configure_optimizers``.

They start from the optimizer's ``lr``; their argument is the number of optimizer steps of the whole training.
"""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from torch.optim import Optimizer, lr_scheduler

from backlit.arguments import Count, FractionBelow1, NonNegative, PartOf1, check_arguments


def cosine(optimizer: Optimizer, total_steps: int, *, min_lr: NonNegative = 0.0) -> dict[str, Any]:
    """Return half a cosine from ``lr`` to `min_lr` (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts).

    Raises:
        ValueError: If `min_lr` is negative or above ``lr``.
    """
    check_arguments(cosine, locals())
    lowest = min(group["lr"] for group in optimizer.param_groups)
    if min_lr > lowest:
        raise ValueError(f"min_lr must be <= {lowest:.10g} (optimizer.lr), got {min_lr}")
    return _each_step(lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=min_lr))


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_fraction: FractionBelow1 = 0.3,
    div_factor: Annotated[float, Ge(1)] = 25.0,
) -> dict[str, Any]:
    """Return a rise from ``lr / div_factor`` to ``lr`` and a fall to almost 0 (Smith and Topin 2018, arXiv:1708.07120).

    Raises:
        ValueError: If `warmup_fraction` is not in [0, 1), or `div_factor` is less than 1.
    """
    check_arguments(one_cycle, locals())
    # torch divides by the length of the rise, which is 0 from the first step to the first step.
    rise = 0.0 if warmup_fraction * total_steps == 1 else float(warmup_fraction)
    peak = [group["lr"] for group in optimizer.param_groups]
    return _each_step(
        lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=total_steps, pct_start=rise, div_factor=div_factor)
    )


def step(
    optimizer: Optimizer, total_steps: int, *, drops: Annotated[int, Ge(0), Le(1000)] = 2, gamma: PartOf1 = 0.1
) -> dict[str, Any]:
    """Return ``lr`` times `gamma` at each of `drops` points that divide the training evenly.

    Raises:
        ValueError: If `drops` is not in [0, 1000], or `gamma` not in (0, 1].
    """
    check_arguments(step, locals())
    milestones = [total_steps * (i + 1) // (drops + 1) for i in range(drops)]
    return _each_step(lr_scheduler.MultiStepLR(optimizer, milestones, gamma=gamma))


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    *,
    monitor: str = "val/loss",
    mode: Literal["min", "max"] = "min",
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1,
    patience: Count = 2,
) -> dict[str, Any]:
    """Return ``lr`` times `factor` when `monitor` has not improved for more than `patience` epochs.

    Raises:
        ValueError: If `factor` is not in (0, 1), or `patience` is negative.
    """
    check_arguments(plateau, locals())
    reduction = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    return {"scheduler": reduction, "interval": "epoch", "monitor": monitor}


def _each_step(scheduler: lr_scheduler.LRScheduler) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": "step"}
