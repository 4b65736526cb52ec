"""A run as its directory describes it: status, best value, records, config."""

import math
import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from backlit.runs.files import write_json
from backlit.runs.run import Run, best_row, clear_run, flat_config, read_rows
from tests.helpers.runs import csv_curve, saved_metrics


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted", "running"])
def test_a_run_that_no_process_has_locked_does_not_run(status: str, tmp_path: Path) -> None:
    # Of a process on another machine, or one that has the number of an ended one.
    write_json(tmp_path / "run.json", {"status": status, "host": "elsewhere", "pid": os.getpid()})
    run = Run.read(tmp_path)
    assert run is not None
    assert run.status == ("interrupted" if status == "running" else status)
    with FileLock(tmp_path / ".lock"):
        assert run.status == status
        assert run.is_running == (status == "running")


def test_a_process_that_has_ended_is_not_named_as_the_one_that_runs(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid, host, runner in [
        (ended.pid, platform.node(), "another process"),
        (os.getpid(), platform.node(), f"process {os.getpid()} on {platform.node()}"),
        (1, platform.node(), f"process 1 on {platform.node()}"),
        (ended.pid, "elsewhere", f"process {ended.pid} on elsewhere"),
    ]:
        assert Run(tmp_path, {"status": "running", "pid": pid, "host": host}).runner == runner


def test_a_completed_run_that_is_trained_longer_stays_completed(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "completed", "extension": {"status": "running", "pid": 1}})
    run = Run.read(tmp_path)
    assert run is not None
    assert (run.status, run.is_running, run.attempt["pid"]) == ("completed", False, 1)
    with FileLock(tmp_path / ".lock"):
        assert (run.status, run.is_running) == ("completed", True)


def test_a_completed_run_with_an_optimized_metric_of_nan_has_failed(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "completed", "optimized_metric": "val/loss"})
    (tmp_path / "metrics.json").write_text('{"metrics": {"val/loss": NaN}}')
    run = Run.read(tmp_path)
    assert run is not None
    assert run.status == "failed"


@pytest.mark.parametrize("text", ["{", "[]", '{"status": 1}'])
def test_a_broken_record_names_its_file(text: str, tmp_path: Path) -> None:
    assert Run.read(tmp_path) is None
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json must be"):
        Run.read(tmp_path)


def test_the_best_record_is_the_first_of_equal_finite_ones() -> None:
    rows: list[dict[str, float]] = [
        {"step": 1, "a": math.nan},
        {"step": 2, "a": 2.0},
        {"step": 3},
        {"step": 4, "a": 1.0},
        {"step": 5, "a": 1.0},
    ]
    assert best_row(rows, "a", "min") == {"step": 4, "a": 1.0}
    assert best_row(rows, "a", "max") == {"step": 2, "a": 2.0}
    assert best_row(rows, "b", "min") is None
    assert best_row([{"a": -math.inf}], "a", "min") is None


@pytest.mark.parametrize(("metric", "loss"), [("val/acc", "val/loss"), ("val_acc", "val_loss"), ("acc", "loss")])
def test_of_equal_values_the_lowest_loss_is_best_and_then_the_first(metric: str, loss: str) -> None:
    rows = [{metric: 0.9}, {metric: 0.9, loss: math.nan}, {metric: 0.9, loss: 0.3}, {metric: 0.9, loss: 0.2}]
    rows += [{metric: 0.9, loss: 0.2}, {metric: 0.8, loss: 0.1}]
    assert best_row(rows, metric, "max") is rows[3]
    assert best_row(rows[:2], metric, "max") is rows[0]
    assert best_row(rows, metric, "min") is rows[5]


def test_best_is_the_same_in_the_csv_in_metrics_json_and_in_the_checkpoint(images_run: Path) -> None:
    curve = [value for _, value in csv_curve(images_run, "val/acc")]
    run = Run.read(images_run)
    assert run is not None
    assert run.metric == ("val/acc", "max")
    assert run.best == (max(curve), curve.index(max(curve)) + 1)
    assert run.optimized == saved_metrics(images_run)["val/acc_best"] == max(curve)
    best = torch.load(images_run / "checkpoints" / "best.ckpt", weights_only=True)
    (state,) = [state for name, state in best["callbacks"].items() if name.startswith("BestCheckpoint")]
    assert state["best_model_score"].item() == pytest.approx(max(curve), rel=1e-6)
    assert best["epoch"] == curve.index(max(curve))


def test_a_run_directory_is_read_back(points_run: Path) -> None:
    run = Run.read(points_run)
    assert run is not None
    assert run.status == "completed"
    assert run.metrics == saved_metrics(points_run)
    assert run.rows == read_rows(points_run / "metrics.csv")
    assert [(row["step"], row["val/loss"]) for row in run.rows if "val/loss" in row] == csv_curve(
        points_run, "val/loss"
    )
    config = flat_config(points_run)
    assert config["optimizer.lr"] == "0.1"
    assert config["model.hidden_sizes"] == "[4]"
    assert "output_dir" not in config
    assert flat_config(points_run / "checkpoints") == {}


def test_a_cleared_run_keeps_its_config_and_its_log(points_run: Path) -> None:
    clear_run(points_run)
    assert {path.name for path in points_run.iterdir()} - {"uncommitted.diff"} == {".hydra", "train.log"}


def test_null_and_nan_in_metrics_are_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "failed", "duration_s": math.nan})
    assert '"duration_s": null' in (tmp_path / "run.json").read_text()
    (tmp_path / "metrics.json").write_text('{"metrics": {"a": null, "b": NaN, "c": -Infinity, "d": 1}}')
    run = Run.read(tmp_path)
    assert run is not None
    assert {name: str(value) for name, value in run.metrics.items()} == {"a": "nan", "b": "nan", "c": "nan", "d": "1.0"}


def test_a_record_that_was_not_written_whole_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,a\n1,0,0.5\n2,0,0.4e-")
    assert read_rows(tmp_path / "metrics.csv") == [{"step": 1, "epoch": 0, "a": 0.5}]


def test_records_that_no_run_writes_are_named(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.csv") == []
    (tmp_path / "metrics.csv").write_text("step,a\n1,2\n1,x\n")
    with pytest.raises(ValueError, match=r"metrics\.csv, line 3, must be a record of a run: could not convert"):
        read_rows(tmp_path / "metrics.csv")
    (tmp_path / "metrics.csv").write_text("step,epoch,a\n1,0,0.5\n2,0,\n")
    assert read_rows(tmp_path / "metrics.csv") == [{"step": 1, "epoch": 0, "a": 0.5}, {"step": 2, "epoch": 0}]
