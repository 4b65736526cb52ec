import inspect
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hydra.utils import get_class
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from backlit.config import _describe, _matches, problems
from backlit.entry import CONFIG_DIR
from tests.conftest import Compose

OPTIONS = sorted(
    path.relative_to(CONFIG_DIR).with_suffix("").as_posix()
    for path in CONFIG_DIR.glob("*/*.yaml")
    if path.parent.name != "hydra"
)
# What a machine may not have is composed, but not built.
NOT_EVERYWHERE = {
    "trainer/gpu": "No supported gpu backend found",
    "trainer/ddp": "No supported gpu backend found",
    "trainer/fsdp": "No supported gpu backend found",
    "trainer/mps": "MPSAccelerator",
    "data/fashion_mnist": "FashionMNIST is not in",
    "data/kmnist": "KMNIST is not in",
    "data/qmnist": "QMNIST is not in",
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise RuntimeError("no network in tests")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_instantiates(option: str, composed: Compose) -> None:
    group, name = option.split("/")
    overrides = [f"{group}={name}"]
    if option == "data/points":
        overrides.append("model=binary_mlp")
    if option == "model/binary_mlp":
        overrides.append("data=points")
    if group == "trainer" and "ddp" in name:
        overrides.append("data.batch_size=64")
    found = problems(composed(*overrides))
    if option in NOT_EVERYWHERE:
        # On a machine that has the hardware there is nothing to say.
        assert all(NOT_EVERYWHERE[option] in line for line in found)
        assert found or group == "trainer"
    else:
        assert found == []


@pytest.mark.parametrize("experiment", [path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml")])
def test_an_experiment_says_its_command(experiment: str) -> None:
    text = (CONFIG_DIR / "experiment" / f"{experiment}.yaml").read_text()
    assert f"backlit-train experiment={experiment}" in text


@pytest.mark.parametrize("option", ["data/mnist", "data/points", "model/mlp", "model/binary_mlp"])
def test_yaml_and_signature_have_the_same_defaults(option: str) -> None:
    node = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / f"{option}.yaml"))
    assert isinstance(node, dict)
    signature = inspect.signature(get_class(node["_target_"])).parameters
    for key, value in node.items():
        if key not in ("_target_", "seed"):
            default: Any = signature[str(key)].default
            assert value == (list(default) if isinstance(default, tuple) else default), key
    # Whatever the class takes can be typed on the command line.
    assert set(signature) - {"optimizer", "scheduler"} <= {str(key) for key in node}


def test_every_ordinary_trainer_flag_is_declared(composed: Compose) -> None:
    import lightning

    flags = set(inspect.signature(lightning.Trainer).parameters)
    not_flags = {"logger", "callbacks", "plugins", "default_root_dir", "enable_checkpointing", "barebones"}
    not_flags |= {"model_registry", "enable_autolog_hparams"}
    assert flags - not_flags <= set(composed().trainer)


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
    "trainer.strategy=foo": "strategy=foo",
    "trainer=ddp_cpu data.batch_size=65": "data.batch_size must be divisible by the number of processes (2), got 65",
    "model.hidden_sizes=128": "model.hidden_sizes must be a list of int, got 128",
    "model.hidden_sizes=[128,-1]": "hidden_sizes and out_features must be >= 1, got [784, 128, -1, 10]",
    "model.activation=swish": "model.activation must be one of relu, leaky_relu, gelu, silu, tanh, sigmoid, got",
    "model.in_features=100": "model.in_features must be 784 for these data, got 100",
    "model=binary_mlp model.in_features=784": "model must tell 10 classes apart for these data, got one for 2",
    "+trainer.max_epoch=3": "trainer.max_epoch: Trainer has no such argument, did you mean max_epochs?",
    "+model.depth=3": "model.depth: MulticlassClassifier has no such argument",
    "optimizer._target_=torch.optim.Nope": "optimizer._target_ must be something that can be imported",
    "callbacks.histograms.every_n_steps=0": "callbacks.histograms.every_n_steps must be >= 1, got 0",
    "scheduler=one_cycle scheduler.warmup_fraction=2": "scheduler: ",
    "scheduler=plateau data.val_size=0": "scheduler.monitor must be measured, but data.val_size=0, got 'val/loss'",
    "optimized_metric=val/accuracy": "optimized_metric must be one of val/loss, val/acc",
    "optimized_mode=up": "optimized_mode must be one of min, max, got 'up'",
    "seed=-1": "seed must be >= 0 and < 2**32, got -1",
    "train=false": "ckpt_path must be a checkpoint when train=false, got null",
    "ckpt_path=nope.ckpt": "ckpt_path must be a file, got nope.ckpt, which does not exist",
    "optimizer.lr=inf": "optimizer.lr must be > 0 and finite, got inf",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch must be >= 1 or null, got 0",
    "scheduler=cosine trainer.max_epochs=-1 trainer.max_time=00:00:01:00": "trainer.max_steps must be > 0 with a",
    "train=false test=false": "train or test must be true, got false for both",
    "lean_loop=maybe": "lean_loop must be bool, got 'maybe'",
    "~scheduler": "scheduler must be there; switch it off with scheduler=none where there is such an option",
    "trainer.profiler=foo": "trainer: ",
    "checkpoint.every_n_steps=0": "checkpoint.every_n_steps must be > 0 or null, got 0",
    "checkpoint.every_n_minutes=soon": "checkpoint.every_n_minutes must be float or null, got 'soon'",
    "process_timeout=0": "process_timeout must be > 0 (seconds), got 0",
    "trainer=ddp_cpu data.val_size=1": "data.val_size must be >= 2 (the processes) or 0, got 1",
    "trainer=ddp_cpu trainer.strategy=ddp_fork": "trainer.strategy must not fork a process that has computed before",
    "trainer=cpu trainer.strategy=fsdp": "The strategy `fsdp` requires a GPU accelerator",
    "trainer.precision=transformer-engine": "trainer: Requirement 'transformer_engine",
    "data.device_resident=maybe": "data.device_resident must be one of auto or bool, got 'maybe'",
    "data.device_resident=true data.num_workers=1": "data.device_resident must be false or auto with num_workers > 0",
    "task_name=null": "task_name must be str, got None",
}


@pytest.mark.parametrize("overrides", BAD)
def test_a_bad_value_is_one_clear_line(overrides: str, composed: Compose) -> None:
    found = problems(composed(*overrides.split(" ")))
    assert any(line.startswith(BAD[overrides]) or BAD[overrides] in line for line in found), found
    assert all("\n" not in line for line in found)


def test_all_problems_are_told_at_once(composed: Compose) -> None:
    found = problems(composed("optimizer.lr=-1", "data.batch_size=0", "model.dropout=2", "trainer.max_epochs=0"))
    assert len(found) == 4


def test_a_file_that_is_no_checkpoint_is_told(tmp_path: Path, composed: Compose) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    torch.save({"state_dict": {"net.fc1.weight": torch.zeros(2, 2)}}, tmp_path / "weights.ckpt")
    (line,) = problems(composed("ckpt_path=weights.ckpt"))
    assert line == "ckpt_path must be a checkpoint to go on from, got weights.ckpt, which has weights alone"
    (line,) = problems(composed("ckpt_path=weights.ckpt", "train=false"))
    assert line == (
        "ckpt_path must fit the model: net.fc1.weight has shape (128, 784) in the model, (2, 2) in the checkpoint"
        " (weights.ckpt)"
    )
    for name in ("text.ckpt", "other.ckpt"):
        (line,) = problems(composed(f"ckpt_path={name}"))
        assert line.startswith(f"ckpt_path: {name} ")


def test_an_endless_training_needs_another_bound(composed: Compose) -> None:
    assert problems(composed("trainer.max_epochs=-1", "trainer.max_steps=10")) == []


@given(
    st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(), st.none(), st.lists(st.integers()))
)
def test_matches_is_isinstance_with_yaml_in_mind(value: Any) -> None:
    is_bool = isinstance(value, bool)
    assert _matches(value, int) == (isinstance(value, int) and not is_bool)
    assert _matches(value, float) == (isinstance(value, int | float) and not is_bool)
    assert _matches(value, bool) == is_bool
    assert _matches(value, str) == isinstance(value, str)
    assert _matches(value, int | None) == (value is None or _matches(value, int))
    assert _matches(value, list[int]) == isinstance(value, list)
    assert _matches(value, Literal["a", "b"]) == (value in ("a", "b"))


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "int or null"),
        (list[int] | str | int, "a list of int or str or int"),
        (Literal["a", "b"] | None, "one of a, b or null"),
        (dict[str, Any], "a mapping"),
        (float | torch.Tensor, "float"),
    ],
)
def test_types_are_described_in_words(hint: Any, words: str) -> None:
    assert _describe(hint) == words
