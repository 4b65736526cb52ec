"""Runs from Python: as the command makes them, with errors raised, and the process as it was."""

import asyncio
import random
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import backlit
from backlit import LoadedRun, load_run, run_experiment
from backlit.errors import ConfigError, RerunDiffersError
from tests.conftest import CallCommand, RunCommand
from tests.helpers.commands import QUICK, hydra_as_found
from tests.helpers.own_package import PACKAGE
from tests.helpers.runs import assert_same_run, only_run, read_record, saved_metrics
from tests.training.test_restore_process import process

SHORT = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=1", "trainer.max_epochs=2", "callbacks=none"]


@pytest.fixture(autouse=True)
def hydra_before() -> Any:
    """Each test begins without what other tests have left in Hydra."""
    with hydra_as_found():
        yield


def generators() -> list[Any]:
    """Return the state of the random generators, and what torch has for the whole process."""
    flags = [torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled()]
    states = [random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # type: ignore[index]
    return [*states, *flags, torch.get_default_dtype(), sys.modules["__main__"].__spec__]


def test_a_run_is_as_the_command_makes_it_and_is_returned(call_command: CallCommand, tmp_path: Path) -> None:
    run = run_experiment(*QUICK, "optimizer.lr=0.3")
    assert run.directory == only_run()
    assert run.config.optimizer.lr == 0.3
    assert run.results == saved_metrics(run.directory)
    loaded = load_run("latest")
    assert loaded.directory == run.directory
    assert loaded.checkpoint == run.checkpoint
    assert loaded.results == run.results
    assert str(loaded) == str(run)
    assert read_record(run.directory)["command"] == f"backlit-train {' '.join(QUICK)} optimizer.lr=0.3"
    done = call_command("backlit-train", *QUICK, "optimizer.lr=0.3", f"hydra.run.dir={tmp_path / 'typed'}")
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "typed", run.directory)
    names, typed = ({path.name for path in found.iterdir()} for found in (run.directory, tmp_path / "typed"))
    assert names - {".lock"} == typed  # a directory that was chosen is locked before there is a run


@pytest.mark.parametrize("more", [[], ["trainer.deterministic=true", "trainer.detect_anomaly=true"]])
def test_two_runs_in_a_row_are_the_same_and_leave_the_process_as_it_was(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before, drawn = process(), generators()
    first, second = (run_experiment(*SHORT, "model.dropout=0.1", *more) for _ in range(2))
    assert (process(), generators()) == (before, drawn)
    assert first.directory != second.directory
    assert_same_run(second.directory, first.directory)
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if "completed" in line][1:]
    assert printed.err == ""


def test_a_run_in_an_event_loop_or_in_a_thread_is_the_same() -> None:
    before = process()

    async def run_here() -> LoadedRun:
        return run_experiment(*SHORT)

    async def run_in_threads() -> list[LoadedRun]:
        return await asyncio.gather(*(asyncio.to_thread(run_experiment, *SHORT) for _ in range(2)))

    runs = [asyncio.run(run_here()), *asyncio.run(run_in_threads())]
    assert len({run.directory for run in runs}) == 3
    assert all(run.results == runs[0].results for run in runs)
    assert process() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lr=-1", "data.batch_size=0"], "data.batch_size must be >= 1 or null, got 0\noptimizer.lr must be"),
        (["lr=0.1"], "lr: no such key or group; type optimizer.lr=0.1"),
        (["experiment=pints"], "experiment=pints: no such option, did you mean points?"),
        (["model.hidden_sizes=[1"], "model.hidden_sizes="),
        (["optimizer.lr=0.1,1"], "optimizer.lr=0.1,1 has several values"),
        (["hydra.run.dir=/proc/x"], "hydra.run.dir must be a directory that can be written, got /proc/x"),
        (["resume=nowhere"], "resume"),
        (
            ["-m", "tags=[a b]"],
            "run_experiment trains one run; a sweep is a command: backlit-train experiment=points -m 'tags=[a b]';",
        ),
        (["--cfg"], "run_experiment takes arguments like 'optimizer.lr=0.3', and --cfg is none"),
        ([3], "run_experiment takes arguments like 'optimizer.lr=0.3', and 3 is none"),
        (["hydra.mode=MULTIRUN", "optimizer.lr=1,2"], "a sweep is started by a command: backlit-train -m"),
    ],
)
def test_wrong_arguments_are_raised_with_a_line_each_and_leave_nothing(
    arguments: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, drawn = process(), generators()
    with pytest.raises(ConfigError) as raised:
        run_experiment("experiment=points", *arguments) if isinstance(arguments[0], str) else run_experiment(*arguments)
    assert str(raised.value).startswith(message)
    assert capsys.readouterr() == ("", "")
    assert list(Path().iterdir()) == []
    assert (process(), generators()) == (before, drawn)


def test_a_failed_run_is_recorded_and_its_error_is_raised() -> None:
    before, drawn = process(), generators()
    with pytest.raises(FloatingPointError, match=r"^val/loss is nan at step 1"):
        run_experiment(*SHORT, "optimizer=sgd", "optimizer.lr=1e38")
    assert read_record(only_run())["status"] == "failed"
    assert (process(), generators()) == (before, drawn)
    assert run_experiment(*SHORT).results["test/acc"] > 0.4


def test_an_interrupted_run_is_recorded_and_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Any, *arguments: Any) -> None:
        if self.global_step == 5:
            signal.raise_signal(signal.SIGINT)

    before, drawn, long = process(), generators(), [*SHORT, "data.passes_per_epoch=4"]
    with monkeypatch.context() as patch:
        patch.setattr("backlit.models.BinaryClassifier.on_train_batch_start", interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(*long)
    assert (process(), generators()) == (before, drawn)
    directory = only_run()
    assert read_record(directory)["error"] == "SIGINT"
    resumed = run_experiment("resume=latest")
    assert resumed.directory.resolve() == directory.resolve()
    assert_same_run(directory, run_experiment(*long).directory)
    with pytest.raises(RerunDiffersError, match="differs from"):
        run_experiment(f"rerun={directory}", "optimizer.lr=0.2")


def test_a_run_that_keeps_no_checkpoint_is_returned_as_it_is_in_memory() -> None:
    run = run_experiment("debug=fast", "experiment=points", "trainer=cpu", "callbacks=none")
    assert run.checkpoint is None
    assert not run.model.training
    assert run.results["val/loss"] == saved_metrics(run.directory)["val/loss"]


def test_own_parts_are_trained_from_a_directory_of_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own.py").write_text(PACKAGE)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own_cnn.yaml").write_text("_target_: my_own.MyCNN\nchannels: 2\n")
    (tmp_path / "conf" / "data" / "squares.yaml").write_text("_target_: my_own.MyData\nsize: 32\n")
    monkeypatch.syspath_prepend(tmp_path)
    parts = ["model=own_cnn", "data=squares", "trainer=cpu", "trainer.max_epochs=1", "callbacks=none"]
    run = run_experiment(*parts, config_dir="conf")
    assert type(run.model).__name__ == "MyCNN"
    with pytest.raises(ConfigError, match=r"if you trust that code: packages=\[my_own\]"):
        run_experiment(f"resume={run.directory}", "trainer.max_epochs=2", config_dir="conf")
    longer = run_experiment(f"resume={run.directory}", "trainer.max_epochs=2", config_dir="conf", packages=["my_own"])
    assert longer.config.trainer.max_epochs == 2
    with pytest.raises(ConfigError, match="packages"):
        run_experiment(*parts, packages="my_own")
    (tmp_path / "conf" / "model" / "cnn.yaml").touch()
    with pytest.raises(ConfigError, match=r"conf/model/cnn\.yaml: backlit has a file of this name"):
        run_experiment(*parts, config_dir="conf")


def test_the_package_offers_its_names_and_imports_nothing_heavy(run_script: RunCommand) -> None:
    assert {"run_experiment", "load_run", "load_sweep"} <= set(dir(backlit))
    with pytest.raises(AttributeError, match="no attribute 'run'"):
        _ = backlit.run
    script = "import backlit, sys; print({'torch', 'lightning', 'hydra', 'backlit.load'} & set(sys.modules))"
    assert run_script("python", "-c", script).stdout == "set()\n"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]])
def test_two_processes_run_the_command_however_the_program_was_started(
    launcher: list[str], tmp_path: Path, run_script: RunCommand
) -> None:
    (tmp_path / "program.py").write_text(
        "from backlit import run_experiment\n"
        f"run = run_experiment(*{SHORT}, 'trainer=ddp_cpu', 'trainer.devices=2')\n"
        "import os; os.write(1, f\"{run.directory.resolve()} {run.results['test/acc']}\\n\".encode())\n"
    )
    done = run_script("python", "-m", *launcher, "program")
    assert done.returncode == 0, done.stderr
    directory = only_run(root=tmp_path)
    # With torchrun each process returns the run, with the results that the first one has written.
    expected = f"{directory} {saved_metrics(directory)['test/acc']}"
    assert done.stdout.count(expected) == (2 if launcher else 1)
    assert read_record(directory)["world_size"] == 2


def run_examples(page: str) -> dict[str, Any]:
    """Run the Python code of a page of the documentation as one program, and return its variables."""
    text = (Path(__file__).parents[1] / page).read_text()
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints
        exec("".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)
    return names


@pytest.mark.slow
def test_the_example_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_examples("README.md")["run"]
    printed = capsys.readouterr().out
    assert "epoch 5/5  step 1000  train/loss" in printed
    assert re.search(rf"test/acc *│ *{run.results['test/acc']} ", printed)  # the table of `Trainer.test`


@pytest.mark.slow
def test_the_examples_in_the_guide(call_command: CallCommand) -> None:
    swept = call_command("backlit-train", "-m", *SHORT, "optimizer.lr=0.1,0.2", "hydra.launcher.n_jobs=1")
    assert swept.returncode == 0, swept.stderr
    names = run_examples("docs/how-to.md")
    assert names["run"].config.trainer.max_epochs == 8
    assert names["best"].config.optimizer.lr == 0.2
    assert names["metrics"].keys() >= {"test/loss", "test/acc"}
    assert torch.cat(names["probabilities"]).shape == (10_000,)
