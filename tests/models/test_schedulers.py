import math
from collections.abc import Callable
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


TORCHS: dict[str, tuple[Callable[..., dict[str, Any]], Callable[..., Any]]] = {
    "cosine": (
        lambda made, steps: schedulers.cosine(made, steps, min_lr=0.01),
        lambda made, steps: torch.optim.lr_scheduler.CosineAnnealingLR(made, steps, eta_min=0.01),
    ),
    "one_cycle": (
        lambda made, steps: schedulers.one_cycle(made, steps, warmup_fraction=0.37, div_factor=10),
        lambda made, steps: torch.optim.lr_scheduler.OneCycleLR(
            made, 0.2, total_steps=steps, pct_start=0.37, div_factor=10, cycle_momentum=False
        ),
    ),
    "step": (
        lambda made, steps: schedulers.step(made, steps, drops=3, gamma=0.3),
        lambda made, steps: torch.optim.lr_scheduler.MultiStepLR(
            made, [steps // 4, steps * 2 // 4, steps * 3 // 4], gamma=0.3
        ),
    ),
}


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("steps", [2, 7, 100])
def test_rates_are_those_of_torchs_own_schedulers(name: str, steps: int) -> None:
    ours, theirs = TORCHS[name]
    made, reference = optimizer(), optimizer()
    found = rates(ours(made, steps), made, steps)
    expected = rates({"scheduler": theirs(reference, steps)}, reference, steps)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "arguments", "interval", "expected"),
    [
        ("StepLR", {"step_size": 3}, "epoch", {"step_size": 3}),
        ("StepLR", {"step_size": 3, "interval": "step"}, "step", {"step_size": 3}),
        ("CosineAnnealingLR", {"eta_min": 0.01}, "step", {"T_max": 40, "eta_min": 0.01}),
        ("CosineAnnealingLR", {"T_max": None, "interval": "step"}, "step", {"T_max": 40}),
        ("CosineAnnealingLR", {"T_max": 5}, "epoch", {"T_max": 5}),
        ("OneCycleLR", {"max_lr": 0.1, "cycle_momentum": False}, "step", {"total_steps": 40}),
        ("ReduceLROnPlateau", {"monitor": "val/acc", "mode": None}, "epoch", {"mode": "max"}),
        ("ReduceLROnPlateau", {"monitor": "val_loss"}, "epoch", {"mode": "min"}),
    ],
)
def test_a_scheduler_of_torch_counts_epochs_or_the_steps_of_the_training(
    kind: str, arguments: dict[str, Any], interval: str, expected: dict[str, Any]
) -> None:
    chosen = getattr(torch.optim.lr_scheduler, kind)
    config = schedulers.torch_schedule(optimizer(), 40, kind=chosen, **arguments)
    assert (type(config["scheduler"]), config["interval"]) == (chosen, interval)
    assert config["monitor"] == arguments.get("monitor")
    assert {name: getattr(config["scheduler"], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("CosineAnnealingLR", {"interval": "epoch"}, "interval must be step or null without T_max, got epoch"),
        ("ReduceLROnPlateau", {}, "monitor must be a metric for ReduceLROnPlateau, val/loss for instance, got null"),
        ("ReduceLROnPlateau", {"monitor": "score"}, "mode must be min or max for monitor=score, got null"),
    ],
)
def test_what_a_scheduler_of_torch_lacks_is_named(kind: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        schedulers.torch_schedule(optimizer(), 40, kind=getattr(torch.optim.lr_scheduler, kind), **arguments)


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize(("before", "done", "after"), [(40, 40, 100), (40, 13, 100), (100, 13, 40)])
def test_a_schedule_of_another_length_is_that_of_the_new_length_from_there_on(
    name: str, before: int, done: int, after: int
) -> None:
    make, _ = TORCHS[name]
    made, whole, resumed = optimizer(), optimizer(), optimizer()
    expected = rates(make(whole, after), whole, after)
    first = make(made, before)
    rates(first, made, done)
    second = make(resumed, after)
    resumed.load_state_dict(made.state_dict())  # as Lightning does: the optimizer first, with its last rate
    second["scheduler"].load_state_dict(first["scheduler"].state_dict())
    assert rates(second, resumed, after - done) == expected[done:]
    third = make(optimizer(), before)
    third["scheduler"].load_state_dict(first["scheduler"].state_dict())
    third["scheduler"].set_total_steps(after)  # when training starts
    assert third["scheduler"].get_last_lr()[0] == (expected[done:] or expected)[0]


@pytest.mark.parametrize("name", TORCHS)
def test_the_rate_stays_after_the_last_step(name: str) -> None:
    made = optimizer()
    found = rates(TORCHS[name][0](made, 20), made, 60)
    assert len(set(found[20:])) == 1
    assert found[20] <= found[19]


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_one_cycle_suits_any_length(fraction: float, steps: int) -> None:
    made = optimizer()
    found = rates(schedulers.one_cycle(made, steps, warmup_fraction=fraction), made, steps)
    assert max(found) <= 0.2 + 1e-12
    assert min(found) > 0


def test_one_cycle_keeps_the_momentum_of_the_config() -> None:
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2, momentum=0.3)
    rates(schedulers.one_cycle(made, 20), made, 10)
    assert made.param_groups[0]["momentum"] == 0.3


def test_a_warmup_fraction_out_of_range_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"^warmup_fraction must be >= 0 and < 1, got 2$"):
        schedulers.one_cycle(optimizer(), 10, warmup_fraction=2)


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
