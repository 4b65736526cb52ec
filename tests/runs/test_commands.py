"""The commands that are printed run when they are pasted: in the shell, in Hydra, with the parts of a user."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from backlit.cli.arguments import read_arguments, read_path
from backlit.runs.commands import evaluate_command, own_packages, repeat_command, resume_command, split_flags
from backlit.runs.run import Run
from tests.conftest import CallCommand
from tests.helpers.names import ODD_NAMES
from tests.helpers.runs import change_record
from tests.helpers.sweeps import write_run

OWN = ["model._target_=my_package.MyCNN", "data._target_=other.Data", "optimizer._target_=torch.optim.Adam"]


def read_run(directory: Path) -> Run:
    run = Run.read(directory)
    assert run is not None
    return run


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_pasted_command_names_the_run_whatever_its_name(name: str, tmp_path: Path) -> None:
    run = tmp_path / "outputs" / name / "runs" / name
    for command, key, config_name in (
        (evaluate_command(run), "run", "evaluate"),
        (resume_command(run, []), "resume", "train"),
        (evaluate_command(tmp_path / name), "run", "evaluate"),
    ):
        (argument,) = read_arguments(shlex.split(command)[1:], config_name)
        expected = tmp_path / name if command == evaluate_command(tmp_path / name) else run
        assert Path(read_path(argument.removeprefix(f"{key}="))).resolve() == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["it's [1], ${HOME}", 'größe "~" #=\\'])
def test_a_run_with_any_name_is_read_by_the_printed_commands(
    name: str, points_run: Path, call_command: CallCommand, tmp_path: Path
) -> None:
    run = points_run.rename(tmp_path / name.replace("$", "S"))
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace(str(points_run), "elsewhere"))
    for more in (["resamples=0"], ["resamples=0", "data.margin=0.1"]):
        ended = call_command(*shlex.split(evaluate_command(run)), *more)
        assert ended.returncode == 0, ended.stderr
    written = shlex.split(ended.stdout[ended.stdout.index("written") :])[1].removesuffix(":")
    assert Path(written, "evaluation.json").exists()


@pytest.mark.process
def test_a_printed_command_runs_in_a_shell(points_run: Path, tmp_path: Path) -> None:
    run = points_run.rename(tmp_path / 'it\'s $a `b` "c" [1],2=é')
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", f"{evaluate_command(run)} resamples=0"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(list(run.glob("evaluations/*/evaluation.json"))) == 1


def test_the_commands_of_a_run_of_own_parts_trust_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    arguments = ["--config-dir", "my configs", "-m", "experiment=mine", "seed=1,2"]
    run = write_run(tmp_path / "run", OWN, [0.1], arguments=arguments)
    assert own_packages(run) == ["my_package", "other"]
    assert evaluate_command(run) == "backlit-evaluate run=run 'packages=[my_package,other]'"
    flags = "--config-dir 'my configs'"
    assert repeat_command(read_run(run)) == f"backlit-train {flags} {' '.join(OWN)}"
    assert resume_command(run, arguments) == f"backlit-train {flags} resume=run 'packages=[my_package,other]'"
    elsewhere = resume_command(run, ["data.data_dir='/a b'", "seed=1"], "trainer.max_epochs=...")
    assert shlex.split(elsewhere)[1:4] == ["resume=run", "trainer.max_epochs=...", "data.data_dir='/a b'"]
    sweep = resume_command(tmp_path / "sweep", arguments, is_sweep=True, parts_of=run)
    assert sweep == f"backlit-train -m {flags} resume=sweep 'packages=[my_package,other]'"


def test_a_run_is_repeated_from_its_beginning_and_a_cluster_is_asked_as_before(tmp_path: Path) -> None:
    run = write_run(tmp_path / "it is" / "0", ["lr=1"], [0.1])
    change_record(run, overrides=["lr=1", f"ckpt_path='{run.resolve()}/checkpoints/last.ckpt'"])
    assert repeat_command(read_run(run)) == "backlit-train lr=1"
    change_record(run, overrides=["lr=1", "ckpt_path=other/checkpoints/last.ckpt"])
    assert repeat_command(read_run(run)) == "backlit-train lr=1 ckpt_path=other/checkpoints/last.ckpt"
    options = "hydra.launcher.options=[--exclusive]"
    sweep = resume_command(tmp_path / "sweep", ["-m", "hydra.launcher.time=3", options], is_sweep=True)
    assert shlex.split(sweep) == ["backlit-train", "-m", "resume=sweep", options]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("lightning.pytorch.loggers.WandbLogger", " 'packages=[lightning]'"),
        ("backlit.loggers.MLFlowLogger", " 'packages=[lightning]'"),
        ("backlit.loggers.TensorBoardLogger", ""),
        ("mine.Logger", " 'packages=[mine]'"),
    ],
)
def test_a_resumed_run_trusts_a_logger_that_sends_elsewhere(target: str, words: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [f"logger.x._target_={target}"], [0.1])
    assert resume_command(run, []) == f"backlit-train resume=run{words}"
    assert evaluate_command(run).startswith("backlit-evaluate run=run")


def test_the_path_of_own_parts_is_printed_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", OWN[:1], [0.1])
    own = write_run(tmp_path / "ours", ["model._target_=torch.nn.Linear"], [0.1])
    Path("a b").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"a b{os.pathsep}/nowhere")
    assert evaluate_command(run).startswith("backlit-evaluate")  # installed
    Path("a b", "my_package.py").touch()
    assert evaluate_command(run).startswith("PYTHONPATH='a b:/nowhere' backlit-evaluate")
    assert evaluate_command(own) == "backlit-evaluate run=ours"
    # `python -m backlit.train` finds what is in the working directory.
    Path("my_package.py").touch()
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert evaluate_command(run).startswith("PYTHONPATH=. backlit-evaluate")


def test_classes_in_lists_are_own_parts_too_and_only_names_are_printed(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    config = "model: {_target_: '$(rm -r x).Model', parts: [{_target_: mine.Part}]}\ndata: {_target_: backlit.data.X}\n"
    (tmp_path / ".hydra" / "config.yaml").write_text(config)
    assert own_packages(tmp_path) == ["mine"]


def test_flags_keep_their_values() -> None:
    assert split_flags(["--config-dir", "my", "a=1", "-m", "~b"]) == (["--config-dir", "my", "-m"], ["a=1", "~b"])
    assert split_flags(["-cd", "a=b", "c=1"]) == (["-cd", "a=b"], ["c=1"])


@pytest.mark.slow
def test_the_place_of_a_runs_data_is_part_of_the_printed_commands(images_run: Path, call_command: CallCommand) -> None:
    command = shlex.split(evaluate_command(images_run))
    assert command[2].startswith("data.data_dir=/")
    ended = call_command(*command, "resamples=0")
    assert ended.returncode == 0, ended.stderr
    arguments = read_run(images_run).record["arguments"]
    resumed = shlex.split(resume_command(images_run, arguments, "trainer.max_epochs=3"))
    assert [word for word in resumed if word in arguments] == [command[2]]
