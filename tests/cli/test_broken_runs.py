"""``resume=`` and ``rerun=`` of runs and sweeps with a broken file: one line, or a plan."""

import os
import shutil
from pathlib import Path

import pytest

from backlit.cli.resume import plan_command
from backlit.errors import ConfigError
from tests.cli.test_resume import rejected
from tests.helpers.corruptions import run_corruptions, sweep_corruptions
from tests.helpers.runs import change_record
from tests.helpers.sweeps import write_sweep


@pytest.mark.slow
@pytest.mark.parametrize("key", ["resume", "rerun"])
def test_a_broken_run_is_one_line_or_a_plan(key: str, trained_points: Path, tmp_path: Path) -> None:
    rejected_runs: dict[str, list[str]] = {}
    for number, (name, corrupt) in enumerate(run_corruptions().items()):
        run = tmp_path / "runs" / str(number)
        shutil.copytree(trained_points, run, ignore=shutil.ignore_patterns("tensorboard", "previous.ckpt"))
        if key == "resume":
            change_record(run, status="interrupted")
        corrupt(run)
        try:
            plan_command([f"{key}={run}"])
        except ConfigError as error:
            rejected_runs[name] = error.problems
    assert len(rejected_runs) > 140
    longest = 2 * len(str(tmp_path)) + 300
    for name, problems in rejected_runs.items():
        assert len(problems) == 1, name
        assert problems[0].isprintable(), name
        assert len(problems[0]) < longest, name


def test_a_broken_record_of_a_sweep_is_one_line_or_a_plan(tmp_path: Path) -> None:
    rejected_sweeps: dict[str, list[str]] = {}
    for number, (name, corrupt) in enumerate(sweep_corruptions().items()):
        sweep = write_sweep(tmp_path / str(number), {"lr=1": [0.5], "lr=2": []})
        corrupt(sweep)
        try:
            plan_command(["-m", f"resume={sweep}"])
        except ConfigError as error:
            rejected_sweeps[name] = error.problems
    assert len(rejected_sweeps) > 60
    for name, problems in rejected_sweeps.items():
        assert len(problems) == 1, name
        assert problems[0].isprintable(), name


@pytest.mark.parametrize("name", ["run.json", ".hydra/config.yaml", "metrics.csv"])
def test_a_directory_or_a_pipe_in_the_place_of_a_file_is_rejected(name: str, points_run: Path) -> None:
    change_record(points_run, status="interrupted")
    for make in (os.mkdir, os.mkfifo):
        path = points_run / name
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        assert name in rejected(f"resume={points_run}")


def test_curves_that_cannot_be_read_are_not_overwritten(points_run: Path) -> None:
    change_record(points_run, status="interrupted")
    (points_run / "metrics.csv").write_text("step,epoch,val/loss\n10,0,abc\n")
    assert rejected("resume=latest", "trainer.max_epochs=3").startswith("resume: ")
    assert "abc" in (points_run / "metrics.csv").read_text()


@pytest.mark.parametrize("status", ["completed", "interrupted"])
def test_a_config_that_is_none_is_rejected_before_anything_is_trained(status: str, points_run: Path) -> None:
    change_record(points_run, status=status)
    config = points_run / ".hydra" / "config.yaml"
    config.write_text("precious\n")
    for more in ([], ["trainer.max_epochs=3"], ["trainer.max_epochs=3", "hydra.run.dir=elsewhere"]):
        message = rejected(f"resume={points_run}", *more)
        assert message.startswith(f"resume={points_run}: {config} must be a run's config, got something else; without")
    assert config.read_text() == "precious\n"
    config.unlink()
    assert plan_command([f"resume={points_run}", "trainer.max_epochs=3"]).run == points_run
