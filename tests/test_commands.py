"""The commands as processes of their own: console scripts, signals, several at once, an installed wheel."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import CallCommand, RunCommand
from tests.helpers.commands import QUICK
from tests.helpers.processes import Started
from tests.helpers.runs import change_record, only_run, read_record, saved_metrics

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]


def test_a_run_and_the_command_that_it_prints(
    run_command: RunCommand, call_command: CallCommand, tmp_path: Path
) -> None:
    done = run_command(
        "backlit-train", "experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "optimizer.lr=0.2"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run = only_run()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.name)
    record = read_record(run)
    assert (record["status"], record["overrides"]) == (
        "completed",
        ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "optimizer.lr=0.2"],
    )
    assert OmegaConf.load(run / ".hydra" / "config.yaml").optimizer.lr == 0.2
    log = (run / "train.log").read_text()
    for line in done.stdout.splitlines():
        assert line in log
    assert "\x1b" not in done.stdout  # no bar and no colours where there is no terminal
    # What the end of a run says to type next is typed.
    (command,) = re.findall(r"evaluate +(backlit-.*)", done.stdout)
    judged = call_command(*command.split(" "), "resamples=20")
    assert judged.returncode == 0, judged.stderr
    assert f"{saved_metrics(run)['test/loss']:.4f}" in judged.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]


def test_help_and_config_import_nothing_heavy(run_script: RunCommand) -> None:
    code = """
import contextlib, io, os, sys
from backlit.train import main
os.environ["COMP_LINE"] = "backlit-train optimizer="
for arguments in (["--help"], ["--cfg", "job"], ["-sc", "query=bash"]):
    sys.argv = ["backlit-train", *arguments]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as printed:
        main()
    print(bool(printed.getvalue()), {"torch", "lightning", "matplotlib"} & set(sys.modules))
"""
    done = run_script("python", "-c", code)
    assert done.stdout.splitlines() == ["True set()"] * 3, done.stderr


def test_runs_that_start_at_once_get_directories_of_their_own(tmp_path: Path) -> None:
    processes = [Started("backlit-train", *QUICK, directory=tmp_path) for _ in range(6)]
    assert [process.wait() for process in processes] == [0] * 6
    runs = sorted(tmp_path.glob("outputs/points/runs/*"))
    assert [read_record(run)["status"] for run in runs] == ["completed"] * 6
    assert any(run.name.endswith("_2") for run in runs)


def test_a_run_is_resumed_by_one_process(points_run: Path, tmp_path: Path) -> None:
    change_record(points_run, status="failed")
    both = [Started("backlit-train", "resume=latest", "trainer.max_epochs=30", directory=tmp_path) for _ in range(2)]
    ended = sorted((process.wait(), process.communicate()[1]) for process in both)
    assert [code for code, _ in ended] == [0, 2]
    rejected = ended[1][1]
    assert "is being run by another process" in rejected or "resume must be a run that has ended" in rejected
    steps = [int(line.split(",")[0]) for line in (points_run / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak)]
)
def test_an_interrupted_command_exits_as_shells_expect(number: signal.Signals, code: int, tmp_path: Path) -> None:
    lines = "+callbacks.lines._target_=backlit.callbacks.EpochLines"
    process = Started("backlit-train", *QUICK, "trainer.max_epochs=100000", lines, directory=tmp_path)
    process.wait_for("epoch 3/")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "interrupted at step" in output
    assert read_record(only_run())["status"] == "interrupted"


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

    where = run("python", "-c", "import backlit.config.conf as c; print(c.__file__); print(c.CONFIG_DIR)")
    assert all(line.startswith(str(tmp_path / "venv")) for line in where.splitlines())
    packages = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")]
    assert [path for path in packages if not (site / path).exists()] == []
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    without_config = {"backlit-new", "backlit-report"}
    for command in commands.keys() - without_config:
        assert "run: " in run(command, "--cfg", "job") or command == "backlit-train"
    assert all((binaries / command).exists() for command in without_config)
    run("backlit-new", "my_project")
    assert (tmp_path / "elsewhere" / "my_project" / "src" / "my_project" / "model.py").exists()
    limits = ["trainer.limit_train_batches=20", "trainer.max_epochs=1", "callbacks=none", "trainer=cpu"]
    assert "test" in run("backlit-train", "experiment=mnist_mlp", *limits)
