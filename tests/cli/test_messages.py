"""What a user sees who types something wrong: one line on stderr, exit code 2, no directory."""

from pathlib import Path

import pytest

from backlit.cli.messages import explain
from backlit.errors import ConfigError
from tests.conftest import CallCommand

EXPECTED = {
    "optimizer=adamm": "optimizer=adamm: no such option, did you mean adam?; there are: adam, adamw, rmsprop, sgd",
    "experiment=mnist": "experiment=mnist: no such option, did you mean mnist_mlp?; there are: mnist_mlp, points",
    "optimiser=adam": "optimiser: no such key or group, did you mean optimizer?; there are: task_name,",
    "trainer.max_epoch=3": "trainer.max_epoch: no such key, did you mean trainer.max_epochs?",
    "experiment=points data.train_sise=3": "data.train_sise: no such key, did you mean data.train_size?",
    "seeed=1": "seeed: no such key or group, did you mean seed?",
    "optimizer.lr": "Error parsing override 'optimizer.lr'; missing EQUAL at '<EOF>'",
    "trainer.max_epochs=abc": "trainer.max_epochs must be int or null, got 'abc'",
    "-m hydra/launcher=ray": "hydra/launcher=ray: no such option; pip install 'backlit[ray]'; there are: ",
    "experiment=points hydra.run.dir=/proc/none": "hydra.run.dir must be a directory that can be",
    "--config-name=nope": "--config-name=nope: no such config in ",
    "optimizer=null": "Config group override",
    "data.seed=${nope}": "data.seed: Interpolation key 'nope' not found",
    "trainer=ddp_spawn": "trainer=ddp_spawn: this option is gone; type trainer=ddp, or trainer=ddp_cpu",
    "logger=many": "logger=many: this option is gone; type logger=tensorboard",
    "data.stratified=true": "data.stratified: no such key",
    "experiment=points trainer=ddp_cpu data.batch_size=25": (
        "data.batch_size must be divisible by the number of processes (2), got 25"
    ),
}


@pytest.mark.parametrize("arguments", EXPECTED)
def test_a_mistake_is_one_line_with_exit_code_2_and_leaves_nothing(
    arguments: str, call_command: CallCommand, tmp_path: Path
) -> None:
    ended = call_command("backlit-train", *arguments.split(" "))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {EXPECTED[arguments]}")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run must be a run directory, a file in its checkpoints/, or 'latest': run=latest"),
        (["run=latest"], "run=latest: there is no run with a checkpoint in "),
        (["run=nowhere"], "run must be a run directory, got nowhere, which has no .hydra/config.yaml"),
    ],
)
def test_evaluate_names_the_run_that_it_needs(arguments: list[str], message: str, call_command: CallCommand) -> None:
    ended = call_command("backlit-evaluate", *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {message}")


def test_all_problems_of_a_config_are_reported_a_line_each(call_command: CallCommand) -> None:
    ended = call_command("backlit-train", "optimizer.lr=-1", "data.batch_size=0", "model.dropout=2")
    assert ended.returncode == 2
    assert [line.split(" ")[:2] for line in ended.stderr.splitlines()] == [
        ["error:", "data.batch_size"],
        ["error:", "model.dropout"],
        ["error:", "optimizer.lr"],
    ]


def test_an_error_of_hydra_loses_its_type_and_its_link() -> None:
    error = ValueError("lr is wrong\n    object_type=dict\nSee https://hydra.cc for more\n  full_key: lr\n")
    assert explain(error, "train") == "lr is wrong; full_key: lr"
    assert explain(ConfigError(["a", "b"]), "train") == "a\nb"
