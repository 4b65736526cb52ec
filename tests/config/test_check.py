"""Each wrong value of a config is reported in one line; all of them at once."""

from pathlib import Path

import pytest
import torch

from backlit.training.build import find_problems
from tests.conftest import Compose

BAD = {
    "optimizer.lr=-0.1": "optimizer.lr must be > 0 and finite, got -0.1",
    "optimizer.lr=0": "optimizer.lr must be > 0 and finite, got 0",
    "optimizer.lr=fast": "optimizer.lr must be float, got 'fast'",
    "data.batch_size=0": "data.batch_size must be >= 1, got 0",
    "data.batch_size=1.5": "data.batch_size must be int, got 1.5",
    "data.batch_size=true": "data.batch_size must be int, got True",
    "data.val_size=60000": "data.val_size must be >= 0 and < 60000 (the training images), got 60000",
    "data.data_dir=/proc/nothing": "data: /proc/nothing",
    "trainer.max_epochs=0": "trainer.max_epochs must be >= 1 (or -1 with max_steps or max_time), got 0",
    "trainer.max_epochs=-3": "trainer.max_epochs must be >= 1 (or -1 with max_steps or max_time), got -3",
    "trainer.max_epochs=abc": "trainer.max_epochs must be int or null, got 'abc'",
    "trainer.precision=12-mixed": "trainer.precision must be one of 64, 32, 16,",
    "trainer.devices=1000": "trainer.devices must be <= ",
    "trainer.accelerator=quantum": "trainer: must fit this machine and itself, got accelerator=quantum, devices=1,",
    "trainer.strategy=foo": "trainer: must fit this machine and itself, got accelerator=auto, devices=1, strategy=foo",
    "trainer=ddp_cpu data.batch_size=65": "data.batch_size must be divisible by the number of processes (2), got 65",
    "model.hidden_sizes=128": "model.hidden_sizes must be a list of int, got 128",
    "model.hidden_sizes=[128,-1]": "model: in_features, hidden_sizes and out_features must be >= 1, got [784,",
    "model.activation=swish": "model.activation must be one of relu, leaky_relu, gelu, silu, tanh, sigmoid, got",
    "model.in_features=100": "model.in_features must be 784 for these data, got 100",
    "model=binary_mlp model.in_features=784": "model must distinguish 10 classes for these data, got one for 2",
    "+trainer.max_epoch=3": "trainer.max_epoch: Trainer has no such argument, did you mean max_epochs?",
    "+model.depth=3": "model.depth: MulticlassClassifier has no such argument",
    "optimizer._target_=torch.optim.Nope": "optimizer._target_ must be something that can be imported",
    "callbacks.histograms.every_n_steps=0": "callbacks.histograms.every_n_steps must be >= 1, got 0",
    "scheduler=one_cycle scheduler.warmup_fraction=2": "scheduler.warmup_fraction must be in [0, 1], got 2",
    "scheduler=plateau data.val_size=0": "scheduler.monitor must be measured, but data.val_size=0, got 'val/loss'",
    "optimized_metric=val/accuracy": "optimized_metric must be one of val/loss, val/acc",
    "optimized_mode=up": "optimized_mode must be one of min, max or null, got 'up'",
    "seed=-1": "seed must be >= 0 and < 2**32, got -1",
    "train=false": "ckpt_path must be a checkpoint when train=false, got null",
    "ckpt_path=nope.ckpt": "ckpt_path must be a file, got nope.ckpt, which does not exist",
    "optimizer.lr=inf": "optimizer.lr must be > 0 and finite, got inf",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch must be >= 1 or null, got 0",
    "scheduler=cosine trainer.max_epochs=-1 trainer.max_time=00:00:01:00": "trainer.max_steps must be > 0 with a",
    "train=false test=false": "train or test must be true, got false for both",
    "lean_loop=maybe": "lean_loop must be bool, got 'maybe'",
    "~scheduler": "scheduler is missing; switch it off with scheduler=none where there is such an option",
    "trainer.profiler=foo": "trainer: When passing string value for the `profiler` parameter of `Trainer`",
    "checkpoint.every_n_steps=0": "checkpoint.every_n_steps must be > 0 or null, got 0",
    "checkpoint.every_n_minutes=soon": "checkpoint.every_n_minutes must be float or null, got 'soon'",
    "process_timeout=0": "process_timeout must be > 0 (seconds), got 0",
    "trainer=ddp_cpu data.val_size=1": "data.val_size must be >= 2 (the processes) or 0, got 1",
    "trainer=ddp_cpu trainer.strategy=ddp_fork": (
        "trainer.strategy must start its processes by the command itself, got ddp_fork: trainer=ddp or ddp_cpu"
    ),
    "trainer=ddp_cpu trainer.strategy=ddp_spawn": (
        "trainer.strategy must start its processes by the command itself, got ddp_spawn: trainer=ddp or ddp_cpu"
    ),
    "trainer=cpu trainer.strategy=fsdp": "trainer: must fit this machine and itself, got accelerator=cpu, devices=1,",
    "trainer.precision=transformer-engine": "trainer: Requirement 'transformer_engine",
    "data.device_resident=maybe": "data.device_resident must be one of auto or bool, got 'maybe'",
    "data.device_resident=true data.num_workers=1": "data.device_resident must be false or auto with num_workers > 0",
    "task_name=null": "task_name must be str, got None",
}


@pytest.mark.parametrize("overrides", BAD)
def test_a_bad_value_is_one_clear_line(overrides: str, composed: Compose) -> None:
    found = find_problems(composed(*overrides.split(" ")))
    assert len([line for line in found if line.startswith(BAD[overrides])]) == 1, found
    assert "\n" not in "".join(found)


def test_all_problems_are_reported_at_once(composed: Compose) -> None:
    found = find_problems(composed("optimizer.lr=-1", "data.batch_size=0", "model.dropout=2", "trainer.max_epochs=0"))
    assert len(found) == 4


def test_a_file_that_is_no_checkpoint_is_reported(tmp_path: Path, composed: Compose) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    torch.save({"state_dict": {"net.fc1.weight": torch.zeros(2, 2)}}, tmp_path / "weights.ckpt")
    for train in ("true", "false"):
        (line,) = find_problems(composed("ckpt_path=weights.ckpt", f"train={train}"))
        assert line == (
            "ckpt_path must fit the model: net.fc1.weight has shape (128, 784) in the model, (2, 2) in the checkpoint"
            " (weights.ckpt)"
        )
    own = tmp_path / "run" / "checkpoints" / "last.ckpt"
    own.parent.mkdir(parents=True)
    (tmp_path / "weights.ckpt").rename(own)
    (line,) = find_problems(composed(f"ckpt_path={own}"), tmp_path / "run")
    assert line == f"ckpt_path must be a checkpoint to resume from, got {own}, which has weights alone"
    for name in ("text.ckpt", "other.ckpt"):
        (line,) = find_problems(composed(f"ckpt_path={name}"))
        assert line.startswith(f"ckpt_path: {name} ")


def test_an_endless_training_needs_another_bound(composed: Compose) -> None:
    assert find_problems(composed("trainer.max_epochs=-1", "trainer.max_steps=10")) == []


def launched_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what torchrun sets for the second of two processes."""
    variables = {"TORCHELASTIC_RUN_ID": "test", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_config_must_fit_the_processes_that_torchrun_started(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched_by_torchrun(monkeypatch)
    found = find_problems(composed("experiment=points", "trainer=cpu"))
    assert found == ["trainer.devices x trainer.num_nodes must be 2 (the processes started here), got 1 x 1"]


def test_several_machines_need_a_launcher(composed: Compose) -> None:
    found = find_problems(composed("experiment=points", "trainer=ddp_cpu", "trainer.num_nodes=2"))
    assert found == ["trainer.num_nodes must be 1 unless torchrun or srun starts the processes, got 2"]
