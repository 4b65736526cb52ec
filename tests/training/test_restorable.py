"""States that a part of the run could not load, each found by its place before anything is started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backlit.errors import ConfigError
from backlit.runs.checkpoint import read_checkpoint
from backlit.training.build import build_run
from backlit.training.restorable import find_unloadable
from backlit.training.train import train
from tests.conftest import Compose

Change = Callable[[dict[str, Any]], Any]

RUN = ("experiment=points", "data.passes_per_epoch=1", "callbacks=none", "trainer.max_epochs=1", "test=false")


def loop(name: str, *keys: str, value: Any) -> Change:
    """Return a change of an entry of the loop of training."""

    def change(content: dict[str, Any]) -> None:
        entry = content["loops"]["fit_loop"]
        for key in (name, *keys)[:-1]:
            entry = entry[key]
        entry[(name, *keys)[-1]] = value

    return change


def group(**values: Any) -> Change:
    return lambda content: content["optimizer_states"][0]["param_groups"][0].update(values)


def moments(**values: Any) -> Change:
    return lambda content: content["optimizer_states"][0]["state"][0].update(values)


_RATES: tuple[Any, ...] = ("0.1", [1], {}, torch.zeros(5), True)
BATCHES, OPTIMIZER = "epoch_loop.batch_progress", "epoch_loop.automatic_optimization.optim_progress"
CHANGES: list[tuple[str, Change]] = [
    ("loops.fit_loop.state_dict", loop("state_dict", value=True)),
    ("loops.fit_loop.epoch_loop.scheduler_progress", loop("epoch_loop.scheduler_progress", value=True)),
    (f"loops.fit_loop.{BATCHES}.total.started", loop(BATCHES, "total", "started", value=[])),
    (f"loops.fit_loop.{BATCHES}.total.started", loop(BATCHES, "total", "started", value=-1)),
    (f"loops.fit_loop.{BATCHES}.total.ready", loop(BATCHES, "total", "ready", value=2**70)),
    (f"loops.fit_loop.{BATCHES}.is_last_batch", loop(BATCHES, "is_last_batch", value="x")),
    (f"loops.fit_loop.{BATCHES}.current", loop(BATCHES, "current", value={})),
    (f"loops.fit_loop.{OPTIMIZER}.optimizer.step.total", loop(OPTIMIZER, "optimizer", "step", "total", value=1e308)),
    ("loops.fit_loop.state_dict.combined_loader", loop("state_dict", "combined_loader", value=[{}, {}])),
    ("loops.fit_loop.state_dict.combined_loader.0", loop("state_dict", "combined_loader", value=[{}])),
    (
        "loops.validate_loop.batch_progress",
        lambda content: content["loops"].update(validate_loop={"batch_progress": 1}),
    ),
    ("optimizer_states", lambda content: content.update(optimizer_states=[])),
    ("optimizer_states.0", group(params=[0])),
    ("optimizer_states.0", group(params="x")),
    *[("optimizer_states.0.param_groups.0.lr", group(lr=lr)) for lr in _RATES],
    ("optimizer_states.0.param_groups.0.eps", group(eps=None)),
    ("optimizer_states.0.state.0", group(amsgrad=True)),
    ("optimizer_states.0.param_groups.0.foreach", group(foreach=torch.zeros(2))),
    ("optimizer_states.0.param_groups.0.betas", group(betas=(0.9,))),
    ("optimizer_states.0.param_groups.0.betas.1", group(betas=(0.9, "x"))),
    ("optimizer_states.0.param_groups.0", lambda content: content["optimizer_states"][0]["param_groups"][0].pop("eps")),
    ("optimizer_states.0.state.0.exp_avg", moments(exp_avg=torch.zeros(7))),
    ("optimizer_states.0.state.0.exp_avg", moments(exp_avg="x")),
    ("optimizer_states.0.state.0.step", moments(step=torch.zeros(2))),
    ("optimizer_states.0.state.0", lambda content: content["optimizer_states"][0]["state"][0].pop("exp_avg_sq")),
    ("lr_schedulers", lambda content: content.update(lr_schedulers=[])),
    ("lr_schedulers.0.best", lambda content: content["lr_schedulers"][0].update(best="x")),
    ("lr_schedulers.0.num_bad_epochs", lambda content: content["lr_schedulers"][0].update(num_bad_epochs=[])),
]


def test_a_state_that_cannot_be_loaded_is_named(composed: Compose, tmp_path: Path) -> None:
    run, overrides = tmp_path / "run", (*RUN, "optimizer=adam", "scheduler=plateau")
    run.mkdir()
    train(composed(*overrides), run)
    path = run / "checkpoints" / "last.ckpt"
    longer = composed(*overrides, f"ckpt_path={path}", "trainer.max_epochs=2")
    parts = build_run(longer, run)
    for place, change in CHANGES:
        content = read_checkpoint(path)
        change(content)
        problem = find_unloadable(content, parts.trainer, parts.model, parts.datamodule)
        assert problem is not None, place
        assert problem.startswith(f"of which {place} is malformed: it must ") or place.endswith(".0"), problem
        assert "\n" not in problem
    content = read_checkpoint(path)
    CHANGES[0][1](content)
    torch.save(content, path)
    with pytest.raises(ConfigError) as caught:
        build_run(longer, run)
    rule = f"ckpt_path must be a checkpoint to resume from, got {path}, of which loops.fit_loop"
    assert caught.value.problems[0].startswith(rule)


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd",
        "{_target_: torch.optim.SGD, lr: 0.1, momentum: 0.9}",
        "{_target_: torch.optim.Adam, lr: 0.1, amsgrad: true}",
        "{_target_: torch.optim.LBFGS, lr: 0.1}",
        "{_target_: torch.optim.Adafactor, lr: 0.1}",
        "{_target_: torch.optim.RMSprop, lr: 0.1, centered: true}",
        "{_target_: torch.optim.Rprop, lr: 0.1}",
        "{_target_: torch.optim.ASGD, lr: 0.1}",
    ],
)
def test_the_state_of_every_optimizer_can_be_loaded(optimizer: str, composed: Compose, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    chosen = [f"optimizer={optimizer}"] if optimizer == "sgd" else ["~optimizer", f"+optimizer={optimizer}"]
    overrides = (*RUN, *chosen, "scheduler=cosine")
    train(composed(*overrides, "trainer.limit_train_batches=2"), run)
    path = run / "checkpoints" / "last.ckpt"
    parts = build_run(composed(*overrides, f"ckpt_path={path}", "trainer.max_epochs=2"), run)
    assert find_unloadable(read_checkpoint(path), parts.trainer, parts.model, parts.datamodule) is None
