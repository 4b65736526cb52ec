"""What a user sees who types something wrong: one line on stderr, exit code 2, no directory."""

import sys
from pathlib import Path

import pytest

from backlit import entry
from backlit.evaluate import main as evaluate
from backlit.train import main as train

TOLD = {
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
    "data.seed=${nope}": "Interpolation key 'nope' not found",
}


@pytest.mark.parametrize("arguments", TOLD)
def test_one_line_exit_code_2_and_nothing_left_behind(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["backlit-train", *arguments.split(" ")])
    with pytest.raises(SystemExit) as caught:
        train()
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.err.startswith(f"error: {TOLD[arguments]}")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run must be a run directory, a file in its checkpoints/, or 'latest': run=latest"),
        (["run=latest"], "run=latest: there is no run with a checkpoint in "),
        (["run=nowhere"], "run must be a run directory, got nowhere, which has no .hydra/config.yaml"),
    ],
)
def test_evaluate_needs_a_run(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["backlit-evaluate", *arguments])
    with pytest.raises(SystemExit) as caught:
        evaluate()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_run_is_never_mixed_into_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["backlit-train", "experiment=points", f"hydra.run.dir={tmp_path}"])
    with pytest.raises(SystemExit) as caught:
        train()
    assert caught.value.code == 2
    assert f"hydra.run.dir must be a directory without a run, got {tmp_path}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", "7"),
        ("optimizer.lr=0.01", "7_optimizer.lr_0.01"),
        ("model.hidden_sizes=[4,4],optimizer.lr=0.12520653814999466", "7_model.hidden_sizes_4-4+optimizer.lr_0.1252"),
        ("ckpt_path='a b/c=d.ckpt'", "7_ckpt_path_-a-b-c_d.ckpt"),
        ("tags=[" + "x" * 300 + "]", "7_tags_" + "x" * 115),
    ],
)
def test_the_names_of_jobs(overrides: str, name: str) -> None:
    assert entry._job_name(7, overrides) == name
