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


def measured(content: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = content["processes"][0]["measured"]
    return entry


def cut_progress(content: dict[str, Any]) -> None:
    del content["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"]


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
    "loops.fit_loop.epoch_progress.current.ready": cut_progress,
    "loops.test_loop": lambda content: content["loops"].update(test_loop=None),
    "optimizer_states.0.state.0": lambda content: content["optimizer_states"][0].update(state={0: 1}),
    "processes.0.measured": lambda content: measured(content).update(sizes=[1], steps=[torch.zeros(3)] * 3),
    "processes.0.measured.unrecorded": lambda content: measured(content).update(unrecorded=torch.eye(2).to_sparse()),
    "processes.0.order.python": lambda content: content["processes"][0].update(order={}),
    "processes.0.logged.x.0": lambda content: content["processes"][0].update(logged={"x": [1.0]}),
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


@pytest.mark.parametrize("version", ["2.6.x!", "0.9.0", "1.9.5", "2", "99.\x1b[2J", "2.6.0\n"])
def test_another_version_is_named(version: str, points_run: Path) -> None:
    content = read_checkpoint(points_run / "checkpoints" / "last.ckpt")
    for fitting in ("2.0.0", "2.6.0.dev20250101", "2.6.0rc1", "2.7", "3.0.1.post0"):
        assert find_malformed(content | {"pytorch-lightning_version": fitting}) is None
    problem = find_malformed(content | {"pytorch-lightning_version": version})
    assert str(problem).endswith(" is malformed: it must be a version of Lightning, 2.0 or later")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(10**6),
        lambda: torch.zeros(0),
        lambda: torch.zeros((), device="meta"),
        lambda: torch.tensor(1j),
        lambda: torch.zeros(1).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.zeros(1), 0.1, 0, torch.quint8),
    ],
)
def test_tensors_of_other_kinds_are_named(make: Callable[[], torch.Tensor], points_run: Path) -> None:
    content = read_checkpoint(points_run / "checkpoints" / "last.ckpt")
    value = make()
    problem = find_malformed(content | {"callback_metrics": {"val/loss": value}})
    assert str(problem).startswith("of which callback_metrics.val/loss is malformed: it must be a ")
    if value.layout is torch.sparse_coo or value.is_meta or value.is_quantized:
        content["optimizer_states"][0]["state"] = {0: {"momentum_buffer": [value]}}
        assert "optimizer_states.0.state is malformed: it must be a dense" in str(find_malformed(content))


@pytest.mark.parametrize("step", ["3", [1], float("nan"), None])
def test_a_run_of_a_malformed_checkpoint_is_not_built(step: Any, points_run: Path, composed: Compose) -> None:
    path = points_run / "checkpoints" / "last.ckpt"
    torch.save(read_checkpoint(path) | {"global_step": step}, path)
    with pytest.raises(ConfigError) as caught:
        build_run(composed("experiment=points", f"ckpt_path={path}"), points_run)
    (line,) = caught.value.problems
    rule = f"ckpt_path must be a checkpoint to resume from, got {path}, of which global_step is malformed: "
    assert line.startswith(rule)
