"""What a user sees who types something wrong: one line on stderr, exit code 2, no directory."""

import sys
from importlib import metadata
from pathlib import Path

import pytest
from hydra.errors import HydraException

from backlit.cli.arguments import read_arguments
from backlit.cli.known_keys import KnownKeys
from backlit.cli.messages import explain
from backlit.cli.unlisted_keys import add_unlisted
from backlit.errors import ConfigError
from tests.conftest import CallCommand
from tests.helpers.commands import compose_config
from tests.helpers.sweeps import write_sweep

EXPECTED = {
    "optimizer=adamm": "optimizer=adamm: no such option, did you mean adam?; there are: adam, adamw, rmsprop, sgd",
    "experiment=mnist": "experiment=mnist: no such option, did you mean mnist_mlp?; there are: mnist_cnn, mnist_mlp, ",
    "optimiser=adam": "optimiser: no such key or group, did you mean optimizer?\n",
    "trainer.max_epoch=3": "trainer.max_epoch: no such key, did you mean trainer.max_epochs?",
    "experiment=points data.train_sise=3": "data.train_sise: no such key, did you mean data.train_size?",
    "seeed=1": "seeed: no such key or group, did you mean seed?",
    "optimizer.lr": "optimizer.lr needs a value: optimizer.lr=...\n",
    "trainer.max_epochs=abc": "trainer.max_epochs must be int or null, got 'abc'",
    "experiment=points hydra.run.dir=/proc/none": "hydra.run.dir must be a directory that can be",
    "--config-name=nope": "--config-name=nope: no such config in ",
    "optimizer=null": "optimizer=null: optimizer must be one of its options: adam, adamw, rmsprop, sgd\n",
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


def answer(command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a command line is answered: words separated by blanks."""
    program, *arguments = command.split(" ")
    monkeypatch.setattr("sys.argv", [program, *arguments])
    config_name = program.removeprefix("backlit-")
    try:
        overrides = [a for a in read_arguments(arguments, config_name) if not a.startswith("-")]
        overrides = add_unlisted(overrides, KnownKeys(config_name, is_recorded=False))
        compose_config(*overrides, config_name=config_name)
    except (ConfigError, HydraException) as error:
        return explain(error, config_name, is_recorded=False)
    return "accepted"


ADDED = ", an argument of its class that the YAML leaves out"
AS_KEY = "an argument is typed as key=value"
FLAG = "no such flag; options are typed as key=value"
SLIPS = {
    # A key without its group.
    "lr=0.01": "lr: no such key or group; type optimizer.lr=0.01",
    "max_epochs=3": "max_epochs: no such key or group; type trainer.max_epochs=3",
    "experiment=points batch_size=3": "batch_size: no such key or group; type data.batch_size=3",
    "hidden_sizes=[8]": "hidden_sizes: no such key or group; type 'model.hidden_sizes=[8]'",
    "every_n_minutes=5": "every_n_minutes: no such key or group; type checkpoint.every_n_minutes=5",
    "n_jobs=2": "n_jobs: no such key or group; type hydra.launcher.n_jobs=2",
    "n_trials=3": "n_trials: no such key or group; a search has it: add sweep=optuna",
    # The names of other programs, other spellings, other places.
    "learning_rate=0.1": "learning_rate: no such key or group; type optimizer.lr=0.1",
    "trainer.gpus=1": "trainer.gpus: no such key; type trainer.devices=1",
    "optimizer.LR=0.1": "optimizer.LR: no such key; type optimizer.lr=0.1",
    "optimizer/lr=0.1": "optimizer/lr: no such key or group; type optimizer.lr=0.1",
    "optimizer:lr=0.1": "optimizer:lr=0.1: no such key; type optimizer.lr=0.1",
    "model.lr=0.1": "model.lr: no such key; type optimizer.lr=0.1",
    "optimiser.lr=3": "optimiser.lr: no such key; type optimizer.lr=3",
    # An argument of a class; never one of another class.
    "optimizer.eps=1e-6": "accepted",
    "eps=1e-6": "eps: no such key or group; type optimizer.eps=1e-6",
    "optimizer.momentum=0.9": "optimizer.momentum: no such key; optimizer has: lr, weight_decay, betas, fused, eps, "
    "amsgrad, foreach, maximize, capturable, differentiable, decoupled_weight_decay",
    "optimizer=sgd optimizer.eps=1": "optimizer.eps: no such key; optimizer has: lr, weight_decay, momentum, nesterov, "
    "fused, dampening, maximize, foreach, differentiable",
    "optimizer.amsgard=true": "optimizer.amsgard: no such key, did you mean optimizer.amsgrad?",
    "optimizer._target_=torch.optim.NAdam optimizer.momentum_decay=0.01": "accepted",
    "scheduler._target_=torch.optim.lr_scheduler.StepLR scheduler.step_size=5 scheduler.interval=step": "accepted",
    "scheduler=cosine scheduler.T_max=3": "scheduler.T_max: no such key; scheduler has: min_lr",
    "scheduler.T_max=3": "scheduler.T_max: no such key; scheduler has no keys; choose one of scheduler=cosine, "
    "scheduler=cosine_annealing, scheduler=exponential, scheduler=linear, scheduler=multi_step, scheduler=one_cycle, "
    "scheduler=plateau, scheduler=reduce_on_plateau, scheduler=step, scheduler=step_lr",
    "logger.wandb.project=x": "logger.wandb.project: no such key; it comes with an option: "
    "'logger=[tensorboard,wandb]'",
    "xyz=3": "xyz: no such key or group; all keys: backlit-train --cfg job",
    # Plus and tilde.
    "+optimizer.lr=1": "+optimizer.lr: the key exists; type it without +: optimizer.lr=1",
    "+experiment=points": "+experiment: the group exists; type it without +: experiment=points",
    "++optimizer=sgd": "+optimizer: the group exists; type it without +: optimizer=sgd",
    "~model": "~model: a run needs one model: model=binary_mlp, model=cnn, model=mlp",
    "~optimizer.foo": "~optimizer.foo: there is no optimizer.foo to remove; "
    "optimizer has: lr, weight_decay, betas, fused",
    # Flags.
    "--lr 0.01": f"--lr: {FLAG}: optimizer.lr=0.01",
    "--optimizer.lr=0.01": f"--optimizer.lr: {FLAG}: optimizer.lr=0.01",
    "--max-epochs 3": f"--max-epochs: {FLAG}: trainer.max_epochs=3",
    "--experiment points": f"--experiment: {FLAG}: experiment=points",
    "--gpu": f"--gpu: {FLAG}: trainer=gpu",
    "--multi-run": "--multi-run: no such flag, did you mean --multirun?",
    "--cfg yaml": "--cfg must be one of job, hydra, all, got yaml",
    "--config-dir": "--config-dir needs a value: --config-dir ...",
    # No equals sign, or blanks around it.
    "help": "help: type backlit-train --help",
    "evaluate": "evaluate: type backlit-evaluate instead of backlit-train",
    "latest": f"latest: {AS_KEY}: resume=latest or rerun=latest",
    "resume": "resume needs a value: backlit-train resume=latest",
    "resume=": "resume=: resume needs a directory or latest: resume=latest",
    "run=latest": "run=latest: run is no key of backlit-train: resume=latest or rerun=latest",
    "outputs/x": f"outputs/x: {AS_KEY}: resume=outputs/x or rerun=outputs/x",
    "points": f"points: {AS_KEY}: data=points or experiment=points",
    "optimizer": "optimizer needs one of its options: optimizer=adam, optimizer=adamw, optimizer=rmsprop, "
    "optimizer=sgd",
    "optimizer.lr 0.1": f"optimizer.lr 0.1: {AS_KEY}: optimizer.lr=0.1",
    "lr = 0.1": "lr = 0.1: an argument is typed without blanks: optimizer.lr=0.1",
    "lr= 0.1": "lr= 0.1: an argument is typed without blanks: optimizer.lr=0.1",
    "lr =0.1": "lr =0.1: an argument is typed without blanks: optimizer.lr=0.1",
    # Values that Hydra cannot read.
    "model.hidden_sizes=[8, 8]": "model.hidden_sizes=[8, 8]: an argument is typed in quotes, since it has blanks: "
    "'model.hidden_sizes=[8,8]'",
    "model.hidden_sizes=[8": "model.hidden_sizes=[8: there is a [ without its ]: 'model.hidden_sizes=[8]'",
    "model.hidden_sizes=(8,8)": "model.hidden_sizes=(8,8): the value has characters that mean something else; type "
    "'model.hidden_sizes=[8,8]'",
    "optimizer.lr=0.1,": "optimizer.lr=0.1,: the value has characters that mean something else; type optimizer.lr=0.1",
    "task_name=it's": "task_name=it's: the value has characters that mean something else; type "
    """'task_name='"'"'it\\'"'"'s'"'"''""",
    "optimizer=adam(lr=0.1)": "optimizer=adam(lr=0.1): optimizer must be one of its options: adam, adamw, rmsprop, sgd",
    "optimizer.lr==0.1": "optimizer.lr==0.1: the value has characters that mean something else; type optimizer.lr=0.1",
    "tags=[größe,b]": "tags=[größe,b]: the value has characters that mean something else; type \"tags=['größe',b]\"",
    "größe=3": "größe=3: a key has letters, digits, _ and dots, got größe",
    "optimizer.lr=1,2": "optimizer.lr=1,2 has several values: for a sweep add -m: -m optimizer.lr=1,2; "
    "for a list: 'optimizer.lr=[1,2]'",
    "trainer=cpu,gpu": "trainer=cpu,gpu names several options: for a sweep add -m; otherwise type one: trainer=cpu",
    "optimizer.lr=interval(0,1)": "optimizer.lr=interval(0,1): this is for a search: add sweep=optuna; "
    "for a grid of values: -m key=1,2,3",
    "scheduler=cosine scheduler.hidden_sizes=[3]": "scheduler.hidden_sizes: no such key; type 'model.hidden_sizes=[3]'",
    # Options.
    "trainer=cuda": "trainer=cuda: type trainer=gpu",
    "model=MLP": "model=MLP: no such option, did you mean mlp?; there are: binary_mlp, cnn, mlp",
    "logger=neptune": "logger=neptune: no such option; there are: comet, csv, mlflow, tensorboard, wandb",
    "experiment=foo.yaml": "experiment=foo: no such option; there are: mnist_cnn, mnist_mlp, points",
    "optimizer=[adam,sgd]": "optimizer=[adam,sgd]: a run needs one optimizer: optimizer=adam, optimizer=adamw, "
    "optimizer=rmsprop, optimizer=sgd",
}


@pytest.mark.parametrize("arguments", SLIPS)
def test_a_slip_is_answered_with_what_to_type(arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(f"backlit-train {arguments}", monkeypatch) == SLIPS[arguments]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("backlit-evaluate outputs/x", f"outputs/x: {AS_KEY}: run=outputs/x"),
        ("backlit-evaluate latest", f"latest: {AS_KEY}: run=latest"),
        ("backlit-evaluate resume=x", "resume=x: resume is no key of backlit-evaluate: run=x"),
        ("backlit-evaluate run=x max_epochs=3", "max_epochs: no such key or group; type trainer.max_epochs=3"),
        ("backlit-predict digit.png", f"digit.png: {AS_KEY}: input=digit.png"),
        ("backlit-export fromat=onnx", "fromat: no such key or group, did you mean format?"),
    ],
)
def test_other_commands_answer_in_their_own_words(command: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(command, monkeypatch) == expected


def test_files_without_a_key_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").touch()
    expected = "a.png ...: files are typed as 'input=[a.png,b.png]' or 'input=*.png'"
    assert answer("backlit-predict run=latest a.png b.png c.png", monkeypatch) == expected


def test_all_slips_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer("backlit-train --lr 0.1 points max_epochs = 3", monkeypatch).splitlines() == [
        f"--lr: {FLAG}: optimizer.lr=0.1",
        f"points: {AS_KEY}: data=points or experiment=points",
        "max_epochs = 3: an argument is typed without blanks: trainer.max_epochs=3",
    ]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("callbacks.ema.decay=0.9", "; it comes with an option: 'callbacks=[default,ema]'"),
        ("callbacks=none callbacks.ema.decay=0.9", "; it comes with an option: 'callbacks=[none,ema]'"),
        ("callbacks=[default,swa] callbacks.ema.decay=0.9", "; it comes with an option: 'callbacks=[default,swa,ema]'"),
        ("callbacks=[default,ema] callbacks.ema.decoy=0.9", ", did you mean callbacks.ema.decay?"),
    ],
)
def test_a_key_of_an_option_of_callbacks_names_the_option(
    typed: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = typed.split(" ")[-1].partition("=")[0]
    assert answer(f"backlit-train {typed}", monkeypatch) == f"{key}: no such key{expected}"


def test_an_unknown_option_in_a_list_is_answered_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = answer("backlit-train callbacks=[default,early_stop]", monkeypatch)
    assert found.startswith("callbacks=early_stop: no such option, did you mean early_stopping?; there are: default, ")


def test_an_argument_of_a_class_that_the_yaml_leaves_out_can_be_added() -> None:
    from backlit.training.build import find_problems

    assert find_problems(compose_config("experiment=points", "optimizer=adam", "+optimizer.eps=1e-6")) == []


OWN = """
from pathlib import Path

Path("imported").touch()


class Data:
    def __init__(self, size: int, noise: float = 0.0): ...
"""


@pytest.mark.parametrize("is_recorded", [False, True])
def test_a_class_is_imported_for_a_message_only_if_it_is_the_users_own(
    is_recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_for_message.py").write_text(OWN)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "own.yaml").write_text("_target_: own_for_message.Data\nsize: 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_for_message", raising=False)
    monkeypatch.setattr("sys.argv", ["backlit-train", "--config-dir", "mine", "data=own", "data.noise=1"])
    error = HydraException("Could not override 'data.noise'.")
    expected = "data.noise: no such key; data has: size"
    if not is_recorded:
        expected = f"data.noise: no such key; type +data.noise=1{ADDED}"
    assert explain(error, "train", is_recorded=is_recorded) == expected
    assert Path("imported").exists() != is_recorded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# @package _global_\ntask_name: [x\n", "experiment/own.yaml, line 3: expected ',' or ']', but got '<"),
        ("# @package _global_\n\ttask_name: x\n", "experiment/own.yaml, line 2: found character '\\t' that cannot st"),
        (
            "defaults:\n  - override /data: points\n",
            "error: a YAML file that overrides other groups must begin with '# @package _global_'; one of experiment d",
        ),
        (
            "# @package _global_\ndefaults:\n  - /data: points\n",
            "error: data is chosen twice; in the defaults of a YAML file type 'override /data: ...'",
        ),
        ("# @package _global_\ndefaults:\n  - override /data: pionts\n", "error: data=pionts: no such option, did"),
    ],
)
def test_a_fault_in_an_own_yaml_file_is_one_line(
    text: str, expected: str, call_command: CallCommand, tmp_path: Path
) -> None:
    (tmp_path / "my" / "experiment").mkdir(parents=True)
    (tmp_path / "my" / "experiment" / "own.yaml").write_text(text)
    ended = call_command("backlit-train", "--config-dir", "my", "experiment=own")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert expected in ended.stderr


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "input=x.png"], ["export", "format=state_dict"]])
def test_a_sweep_is_answered_with_its_best_job(command: list[str], call_command: CallCommand, tmp_path: Path) -> None:
    write_sweep(tmp_path / "a sweep", {"lr=1": [0.5], "lr=2": [0.1], "lr=3": []})
    (tmp_path / "x.png").touch()
    ended = call_command(f"backlit-{command[0]}", "run=a sweep", *command[1:])
    expected = "run must be a run directory, got a sweep, which is a sweep; its best job: \"run='a sweep/1'\""
    assert (ended.returncode, ended.stderr) == (2, f"error: {expected}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: PATH; for example: backlit-report outputs"),
        (["run=latest"], "PATH must be a directory, got run=latest, which does not exist: backlit-report outputs"),
        (["run=a b"], "PATH must be a directory, got run=a b, which does not exist: backlit-report 'a b'"),
        (["--lr=1"], "the following arguments are required: PATH; for example: backlit-report outputs"),
    ],
)
def test_report_answers_in_one_line(
    arguments: list[str], message: str, call_command: CallCommand, tmp_path: Path
) -> None:
    (tmp_path / "a b").mkdir()
    ended = call_command("backlit-report", *arguments)
    assert (ended.returncode, ended.stderr) == (2, f"error: {message}\n")


def test_the_help_is_short_and_names_no_flag_that_nobody_needs(call_command: CallCommand) -> None:
    for name, flag in (("train", "-h"), ("evaluate", "--help"), ("predict", "-h"), ("export", "--help")):
        ended = call_command(f"backlit-{name}", flag)
        assert ended.returncode == 0
        assert len(ended.stdout.splitlines()) < 35
        assert "--cfg job" in ended.stdout
        assert "experimental-rerun" not in ended.stdout


@pytest.mark.slow
def test_a_search_without_trials_is_rejected(call_command: CallCommand, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    ended = call_command("backlit-train", "experiment=points", "sweep=optuna", "hydra.sweeper.n_trials=0")
    expected = "error: hydra.sweeper.n_trials must be >= 1, got 0\n"
    assert (ended.returncode, ended.stderr, list(tmp_path.iterdir())) == (2, expected, [])


def test_the_version_is_backlits(call_command: CallCommand) -> None:
    for command in ("backlit-train", "backlit-evaluate", "backlit-report"):
        ended = call_command(command, "--version")
        assert (ended.returncode, ended.stdout) == (0, f"backlit {metadata.version('backlit')}\n")
