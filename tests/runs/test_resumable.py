"""A checkpoint that a run cannot resume from is rejected by the entry that is malformed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backlit.errors import ConfigError
from backlit.runs.checkpoint import read_checkpoint
from backlit.runs.resumable import find_malformed
from backlit.training.build import build_run
from tests.conftest import Compose

Change = Callable[[dict[str, Any]], Any]

MALFORMED: dict[str, Change] = {
    "pytorch-lightning_version": lambda content: content.update({"pytorch-lightning_version": "x"}),
    "epoch": lambda content: content.update(epoch="3"),
    "global_step": lambda content: content.update(global_step=2**70),
    "loops.fit_loop": lambda content: content["loops"].update(fit_loop=[1]),
    "callbacks": lambda content: content.update(callbacks="text"),
    "optimizer_states": lambda content: content.update(optimizer_states="x"),
    "optimizer_states.0.state": lambda content: content.update(optimizer_states=[{}]),
    "optimizer_states.0.param_groups": lambda content: content["optimizer_states"][0].update(param_groups=[]),
    "lr_schedulers": lambda content: content.pop("lr_schedulers"),
    "processes": lambda content: content.update(processes=5),
    "processes.0": lambda content: content.update(processes=[1]),
    "processes.0.python.1": lambda content: content["processes"][0].update(python=[3, [1], None]),
    "processes.0.numpy.1.0": lambda content: content["processes"][0]["numpy"][1].__setitem__(0, -1),
    "processes.0.torch": lambda content: content["processes"][0].update(torch=torch.zeros(3)),
    "processes.0.measured.steps": lambda content: content["processes"][0]["measured"].pop("steps"),
    "callback_metrics.val/loss": lambda content: content["callback_metrics"].update({"val/loss": "0"}),
    "metrics_csv_rows": lambda content: content.update(metrics_csv_rows=float("nan")),
}


@pytest.mark.parametrize("place", MALFORMED)
def test_a_malformed_entry_is_named(place: str, points_run: Path) -> None:
    content = read_checkpoint(points_run / "checkpoints" / "last.ckpt")
    assert find_malformed(content) is None
    MALFORMED[place](content)
    problem = find_malformed(content)
    assert problem is not None
    assert problem.startswith(f"of which {place} is malformed: ")
    assert "\n" not in problem


@pytest.mark.parametrize("step", ["3", [1], float("nan"), None])
def test_a_run_of_a_malformed_checkpoint_is_not_built(step: Any, points_run: Path, composed: Compose) -> None:
    path = points_run / "checkpoints" / "last.ckpt"
    torch.save(read_checkpoint(path) | {"global_step": step}, path)
    with pytest.raises(ConfigError) as caught:
        build_run(composed("experiment=points", f"ckpt_path={path}"), points_run)
    (line,) = caught.value.problems
    rule = f"ckpt_path must be a checkpoint to resume from, got {path}, of which global_step is malformed: "
    assert line.startswith(rule)
