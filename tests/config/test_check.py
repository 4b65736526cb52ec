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
    "data.val_size=60000": "data.val_size must be >= 0 and < 60000, got 60000",
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
    "model.hidden_sizes=[128,-1]": "model.hidden_sizes[1] must be >= 1, got -1",
    "model.activation=swish": "model.activation must be one of relu, leaky_relu, gelu, silu, tanh, sigmoid, got",
    "model.in_features=100": "model.in_features must be 784 for these data, got 100",
    "model=binary_mlp model.in_features=784": "model must distinguish 10 classes for these data, got one for 2",
    "+trainer.max_epoch=3": "trainer.max_epoch: Trainer has no such argument, did you mean max_epochs?",
    "+model.depth=3": "model.depth: MulticlassClassifier has no such argument",
    "optimizer._target_=torch.optim.Nope": "optimizer._target_ must be something that can be imported",
    "callbacks.histograms.every_n_steps=0": "callbacks.histograms.every_n_steps must be >= 1, got 0",
    "scheduler=one_cycle scheduler.warmup_fraction=2": "scheduler.warmup_fraction must be >= 0 and < 1, got 2",
    "scheduler=plateau data.val_size=0": "scheduler.monitor must be measured, but data.val_size=0, got 'val/loss'",
    "optimized_metric=val/accuracy": "optimized_metric must be one of val/loss, val/acc",
    "optimized_mode=up": "optimized_mode must be one of min, max or null, got 'up'",
    "seed=-1": "seed must be >= 0 and < 4294967296, got -1",
    "train=false": "ckpt_path must be a checkpoint when train=false, got null",
    "ckpt_path=nope.ckpt": "ckpt_path must be a file, got nope.ckpt, which does not exist",
    "optimizer.lr=inf": "optimizer.lr must be > 0 and finite, got inf",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch must be >= 1 or null, got 0",
    "scheduler=cosine trainer.max_epochs=-1 trainer.max_time=00:00:01:00": "trainer.max_steps must be > 0 with a",
    "train=false test=false": "train or test must be true, got false for both",
    "lean_loop=maybe": "lean_loop must be bool, got 'maybe'",
    "~scheduler": "scheduler is missing; switch it off with scheduler=none where there is such an option",
    "trainer.profiler=foo": "trainer.profiler must be one of simple, advanced, pytorch or null, got 'foo'",
    "checkpoint.every_n_steps=0": "checkpoint.every_n_steps must be >= 1 or null, got 0",
    "checkpoint.every_n_minutes=soon": "checkpoint.every_n_minutes must be float or null, got 'soon'",
    "process_timeout=0": "process_timeout must be > 0 and <= 1000000000, got 0",
    "trainer=ddp_cpu lr_find=true": "lr_find must be false with 2 processes; find the rate with one: trainer=cpu or",
    "train=false ckpt_path=x.ckpt lr_find=true": "lr_find must be false when train=false",
    "trainer=ddp_cpu scale_batch_size=true": "scale_batch_size must be false with 2 processes; find it with one",
    "train=false ckpt_path=x.ckpt scale_batch_size=true": "scale_batch_size must be false when train=false",
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
    "task_name=''": "task_name must be the name of a directory below outputs/",
    "trainer.accumulate_grad_batches=-1": "trainer.accumulate_grad_batches must be >= 1, got -1",
    "scheduler=step scheduler.gamma=-1": "scheduler.gamma must be > 0 and <= 1, got -1",
    "scheduler=cosine scheduler.min_lr=-1": "scheduler.min_lr must be >= 0 and finite, got -1",
    "scheduler=cosine scheduler.min_lr=1": "scheduler.min_lr must be <= 0.001 (optimizer.lr), got 1",
    "scheduler=one_cycle scheduler.div_factor=-1": "scheduler.div_factor must be >= 1 and finite, got -1",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val must be >= 0 and finite or null, got -1",
    "trainer.gradient_clip_val=nan": "trainer.gradient_clip_val must be >= 0 and finite or null, got nan",
    "data.std=inf": "data.std must be >= 1e-06 and <= 1000000, got inf",
    "data.mean=nan": "data.mean must be >= -1000000 and <= 1000000, got nan",
    "optimizer.weight_decay=nan": "optimizer.weight_decay must be >= 0 and finite, got nan",
    "optimizer.lr=[0.1]": "optimizer.lr must be float, got [0.1]",
    "optimizer.betas=[0.9]": "optimizer.betas must be a list of 2 float, got [0.9]",
    "optimizer.betas=[0.9,1]": "optimizer.betas[1] must be >= 0 and < 1, got 1",
    "+optimizer.eps=-1": "optimizer.eps must be >= 0 and finite, got -1",
    "optimizer=sgd optimizer.momentum=-1": "optimizer.momentum must be >= 0 and < 1, got -1",
    "trainer.limit_train_batches=0": (
        "trainer.limit_train_batches must be int >= 1 or float > 0 and <= 1 or null, got 0"
    ),
    "trainer.limit_train_batches=0.0001": "trainer.limit_train_batches must come to a batch of 860 (train), got 0.0001",
    "trainer.limit_val_batches=0.1": "trainer.limit_val_batches must come to a batch of 5 (val), got 0.1",
    "trainer.overfit_batches=0.1": "trainer.overfit_batches must come to a batch of 5 (val), got 0.1",
    "trainer.max_steps=0": "trainer.max_steps must be >= 1 (or -1 for no limit), got 0",
    "trainer.min_steps=10 trainer.max_steps=5": "trainer.min_steps must be <= trainer.max_steps (5), got 10",
    "trainer.min_epochs=10": "trainer.min_epochs must be <= trainer.max_epochs (5), got 10",
    "trainer.max_epochs=null": "trainer.max_epochs must be >= 1 (or -1 with max_steps or max_time), got null,",
    "trainer.max_time=soon": "trainer.max_time must be a time > 0, days:hours:minutes:seconds like 00:12:00:00, got",
    "trainer.max_time=00:00:00:00": "trainer.max_time must be a time > 0, days:hours:minutes:seconds like 00:12:00:00,",
    "trainer.val_check_interval=0": (
        "trainer.val_check_interval must be int >= 1 or float > 0 and <= 1 or null, got 0"
    ),
    "trainer.val_check_interval=861": "trainer.val_check_interval must be <= 860 (the batches of an epoch), got 861",
    "trainer.val_check_interval=11 trainer.limit_train_batches=10": (
        "trainer.val_check_interval must be <= 10 (the batches of an epoch), got 11"
    ),
    "trainer.val_check_interval=0.5 trainer.check_val_every_n_epoch=null": (
        "trainer.val_check_interval must be a number of batches with check_val_every_n_epoch=null, got 0.5"
    ),
    "trainer.devices=4294967296": "trainer.devices must be one of -1, auto or >= 1 and <= 10000, got 4294967296",
    "trainer.log_every_n_steps=9223372036854775808": "trainer.log_every_n_steps must be between -2**63 and 2**63",
    "data.num_workers=10000": "data.num_workers must be <= ",
    "data.passes_per_epoch=100000": "data.passes_per_epoch must be <= 2440 (an epoch of 134217728 samples), got 100000",
    "data.seed=4294967296": "data.seed must be >= 0 and < 4294967296, got 4294967296",
    "data.augmentation={degrees:nan}": "data.augmentation must be arguments of RandomAffine, got {'degrees': nan}",
    "model.num_classes=12": "model must distinguish 10 classes for these data, got one for 12",
    "optimizer._target_=5": "optimizer._target_ must be something that can be imported, got 5",
    "callbacks.pictures._target_=5": "callbacks.pictures._target_ must be something that can be imported, got 5",
    "model._target_=torch.optim.Adam": "model._target_ must be a LightningModule, got torch.optim.Adam",
    "model._target_=torch.optim": "model._target_ must be a class or a function, got 'torch.optim'",
    "~optimizer._target_": "optimizer._target_ is missing",
    "~tags": "tags is missing",
    "~checkpoint": "checkpoint is missing; a run always has a last.ckpt",
    "checkpoint=null": "checkpoint is missing; a run always has a last.ckpt",
    "callbacks.histograms=5": "callbacks.histograms must have a _target_, or be null to leave it out, got 5",
    "+trainer.enable_checkpointing=false": "trainer.enable_checkpointing is set by backlit itself and must not",
    "+trainer.logger=false": "trainer.logger is set by backlit itself and must not be given: logger=csv writes",
    "+trainer.callbacks=[]": "trainer.callbacks is set by backlit itself and must not be given: +callbacks.<name>",
    "+checkpoint.path=x": "checkpoint.path is set by backlit itself and must not be given: hydra.run.dir=...",
    "scheduler=plateau trainer.check_val_every_n_epoch=2": (
        "trainer.check_val_every_n_epoch must be 1 with a scheduler that monitors a metric, got 2"
    ),
    "scheduler=plateau trainer.limit_val_batches=0": (
        "scheduler.monitor must be measured, but trainer.limit_val_batches=0, got 'val/loss'"
    ),
    "trainer.precision=bf16-mixed trainer.gradient_clip_val=1": (
        "optimizer.fused must be false with trainer.gradient_clip_val and trainer.precision=bf16-mixed"
    ),
    "+callbacks.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val_loss}": (
        "callbacks.stop.monitor must be one of train/loss, train/loss_epoch, train/acc, val/loss, val/acc"
    ),
    "output_dir=x": "output_dir must be null, got 'x': hydra.run.dir=... chooses the directory",
    "+lr=0.01": "lr: nothing reads this key, did you mean optimizer.lr?",
    "+max_epochs=3": "max_epochs: nothing reads this key, did you mean trainer.max_epochs?",
    "data.mean=${x}": "data.mean: Interpolation key 'x' not found",
    "packages=mine": "packages must be a list, got mine: packages=[mine]",
    "trainer.max_epochs={_target_:os.getcwd}": "trainer.max_epochs must be int or null, got {'_target_': 'os.getcwd'}",
    "data.mean={_target_:os.getcwd}": "data.mean must be float, got {'_target_': 'os.getcwd'}",
    "search=null": "search must be a mapping, got None",
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
        assert line.startswith(
            "ckpt_path must fit the model: net.fc1.weight has shape (128, 784) in the model, (2, 2) in the checkpoint"
            " (weights.ckpt)"
        )
        assert line.endswith("; to start with what fits: init_from=weights.ckpt") == (train == "true")
    own = tmp_path / "run" / "checkpoints" / "last.ckpt"
    own.parent.mkdir(parents=True)
    (tmp_path / "weights.ckpt").rename(own)
    (line,) = find_problems(composed(f"ckpt_path={own}"), tmp_path / "run")
    assert line == f"ckpt_path must be a checkpoint to resume from, got {own}, which has weights alone"
    for name in ("text.ckpt", "other.ckpt"):
        (line,) = find_problems(composed(f"ckpt_path={name}"))
        assert line.startswith(f"ckpt_path: {name} ")


@pytest.mark.parametrize(
    "overrides",
    [
        "trainer.max_epochs=-1 trainer.max_steps=10",
        "trainer.max_epochs=null trainer.max_steps=10",
        "trainer.max_epochs=-1 trainer.max_time={minutes:3}",
        "callbacks.histograms=null logger.tensorboard=null",
        "~trainer.fast_dev_run",
        "trainer.max_epochs=-1 trainer.max_time={_target_:datetime.timedelta,minutes:3}",
        "trainer.profiler={_target_:lightning.pytorch.profilers.SimpleProfiler}",
        "+optimizer.eps=1e-6 optimizer.fused=null",
        "+rate=0.5 optimizer.lr=${rate}",
        "trainer.precision=bf16-mixed trainer.gradient_clip_val=1 optimizer.fused=false",
        "+callbacks.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/loss}",
        "trainer.val_check_interval=2000 trainer.check_val_every_n_epoch=null",
        "data.augmentation={degrees:10,translate:[0.1,0.1]}",
    ],
)
def test_what_is_unusual_but_right_is_accepted(overrides: str, composed: Compose) -> None:
    assert find_problems(composed(*overrides.split(" "))) == []


def test_a_wrong_value_that_others_copy_is_one_line(composed: Compose) -> None:
    (line,) = find_problems(composed("seed=-1"))
    assert line.startswith("seed must be ")


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
