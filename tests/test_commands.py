"""The commands as processes of their own: exit codes, signals, directories, several processes, an installed wheel."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import RunCommand
from tests.processes import Started

ROOT = Path(__file__).parents[1]
QUICK = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "trainer.max_epochs=2", "callbacks=none"]


def records(tmp_path: Path, pattern: str = "*/runs/*") -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "outputs").glob(f"{pattern}/run.json"))]


def test_a_run_by_the_console_script(run_script: RunCommand, run_command: RunCommand, tmp_path: Path) -> None:
    done = run_script(
        "backlit-train", "experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "optimizer.lr=0.2"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (run,) = (tmp_path / "outputs" / "points" / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.name)
    (record,) = records(tmp_path)
    assert (record["status"], record["overrides"]) == (
        "completed",
        ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "optimizer.lr=0.2"],
    )
    assert OmegaConf.load(run / ".hydra" / "config.yaml").optimizer.lr == 0.2
    log = (run / "train.log").read_text()
    for line in done.stdout.splitlines():
        assert line in log
    assert "\x1b" not in done.stdout  # no bar and no colours where there is no terminal
    # What the end of a run says to type next, typed.
    (command,) = re.findall(r"judge it +(.*)", done.stdout)
    judged = run_command(*command.split(" "))
    assert judged.returncode == 0, judged.stderr
    saved = json.loads((run / "metrics.json").read_text())["metrics"]
    assert f"{saved['test/loss']:.4f}" in judged.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]


def test_help_and_config_are_instant(run_script: RunCommand) -> None:
    for arguments in (["--help"], ["--cfg", "job"], ["-sc", "query=bash"]):
        code = f"import sys; sys.argv = {['backlit-train', *arguments]!r}; from backlit.train import main\n"
        code += "try:\n    main()\nexcept BaseException as e:\n    pass\n"
        code += "print('heavy:', {'torch', 'lightning', 'matplotlib'} & set(sys.modules))"
        done = run_script("python", "-c", code)
        assert "heavy: set()" in done.stdout, (arguments, done.stdout, done.stderr)


def test_runs_that_start_at_once_get_directories_of_their_own(tmp_path: Path) -> None:
    processes = [Started("backlit-train", *QUICK, directory=tmp_path) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    assert [record["status"] for record in records(tmp_path)] == ["completed"] * 8


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_an_interrupted_run_says_so(number: signal.Signals, code: int, tmp_path: Path) -> None:
    lines = "+callbacks.lines._target_=backlit.callbacks.EpochLines"
    process = Started("backlit-train", *QUICK, "trainer.max_epochs=100000", lines, directory=tmp_path)
    process.wait_for("epoch 3/")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "interrupted at step" in output
    (record,) = records(tmp_path)
    assert record["status"] == "interrupted"


def test_a_batch_that_does_not_divide_is_refused(run_command: RunCommand, tmp_path: Path) -> None:
    done = run_command("backlit-train", *QUICK, "trainer=ddp_cpu", "data.batch_size=25")
    assert done.returncode == 2
    assert done.stderr == "error: data.batch_size must be divisible by the number of processes (2), got 25\n"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_keeps_its_traceback(run_command: RunCommand, tmp_path: Path) -> None:
    done = run_command(
        "backlit-train", *QUICK, "optimizer.lr=1e38", "model.activation=gelu", "trainer.log_every_n_steps=5"
    )
    assert done.returncode == 1
    assert "failed: train/loss is" in done.stdout
    assert done.stderr == ""
    (record,) = records(tmp_path)
    assert record["status"] == "failed"
    (log,) = (tmp_path / "outputs").rglob("train.log")
    assert "Traceback (most recent call last)" in log.read_text()


def test_the_wheel_works_with_no_source_tree_in_reach(tmp_path: Path) -> None:
    # Built from a copy: a build leaves nothing in the checkout, and two test runs do not meet.
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "outputs", "data", "tests", "benchmarks")
    shutil.copytree(ROOT, source, ignore=lambda folder, names: ignored(folder, names) if folder == str(ROOT) else set())
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=source, check=True, capture_output=True
    )
    (wheel,) = (source / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    binaries = tmp_path / "venv" / "bin"
    install = ["--python", str(binaries / "python"), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    shutil.rmtree(source)
    # The dependencies are borrowed; a .pth named in a .pth is not read, so the editable checkout stays out of reach.
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (borrowed,) = {str(Path(pytest.__file__).parents[1])}
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    (tmp_path / "elsewhere").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            cwd=tmp_path / "elsewhere",
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("python", "-c", "import backlit.entry as e; print(e.__file__); print(e.CONFIG_DIR)")
    assert all(line.startswith(str(tmp_path / "venv")) for line in where.splitlines())
    assert "test" in run("backlit-train", *QUICK)
    limits = ["trainer.limit_train_batches=20", "trainer.max_epochs=1", "callbacks=none", "trainer=cpu"]
    assert "test" in run("backlit-train", "experiment=mnist_mlp", *limits)
    run("backlit-evaluate", "run=latest", "resamples=0")
