import math
from typing import Any

import pytest
import torch

from backlit.models import schedulers


def optimizer(lr: float = 0.2) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(config: dict[str, object], made: torch.optim.Optimizer, steps: int) -> list[float]:
    scheduler = config["scheduler"]
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    found = []
    for _ in range(steps):
        found.append(made.param_groups[0]["lr"])
        made.step()
        scheduler.step()
    return found


def test_cosine_follows_half_a_cosine() -> None:
    made = optimizer()
    found = rates(schedulers.cosine(made, 100, min_lr=0.01), made, 100)
    expected = [0.01 + 0.19 * (1 + math.cos(math.pi * t / 100)) / 2 for t in range(100)]
    assert found == pytest.approx(expected)


def test_one_cycle_peaks_at_the_optimizers_lr() -> None:
    made = optimizer()
    found = rates(schedulers.one_cycle(made, 100, warmup_fraction=0.25, div_factor=10), made, 99)
    assert found[0] == pytest.approx(0.02)
    assert max(found) == pytest.approx(0.2)
    assert found.index(max(found)) == 24
    assert found[-1] < 0.001


def test_step_drops_at_even_distances() -> None:
    made = optimizer()
    found = rates(schedulers.step(made, 90, drops=2, gamma=0.5), made, 90)
    assert found == pytest.approx([0.2] * 30 + [0.1] * 30 + [0.05] * 30)


def test_plateau_monitors_the_validation_loss() -> None:
    config = schedulers.plateau(optimizer(), 100, patience=1)
    assert (config["monitor"], config["interval"]) == ("val/loss", "epoch")


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (schedulers.step, {"drops": -1}, "drops must be >= 0 and <= 1000, got -1"),
        (schedulers.step, {"gamma": -1}, "gamma must be > 0 and <= 1, got -1"),
        (schedulers.cosine, {"min_lr": -1}, "min_lr must be >= 0 and finite, got -1"),
        (schedulers.cosine, {"min_lr": 0.3}, r"min_lr must be <= 0.2 \(optimizer.lr\), got 0.3"),
        (schedulers.one_cycle, {"div_factor": 0.5}, "div_factor must be >= 1 and finite, got 0.5"),
        (schedulers.one_cycle, {"warmup_fraction": 2}, "warmup_fraction must be >= 0 and < 1, got 2"),
        (schedulers.plateau, {"factor": 1}, "factor must be > 0 and < 1, got 1"),
        (schedulers.plateau, {"patience": 0.5}, "patience must be int, got 0.5"),
    ],
)
def test_a_value_out_of_range_is_named(schedule: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(optimizer(), 10, **arguments)


@pytest.mark.parametrize(("warmup_fraction", "steps"), [(0, 10), (0.1, 10), (0.5, 2), (0.99, 10)])
def test_one_cycle_takes_any_warmup(warmup_fraction: float, steps: int) -> None:
    made = optimizer()
    assert len(rates(schedulers.one_cycle(made, steps + 1, warmup_fraction=0.3), made, steps)) == steps
    made = optimizer()
    schedulers.one_cycle(made, steps, warmup_fraction=warmup_fraction)
    assert 0 < made.param_groups[0]["lr"] <= 0.2
