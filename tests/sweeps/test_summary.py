import json
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from backlit.config.machine import cpu_threads
from backlit.plots.sweep import draw_sweep
from backlit.sweeps.summary import summarize_sweep
from tests.helpers.sweeps import read_table, write_run, write_sweep


def test_a_sweep_is_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = {"a=1 lr=0.1": [0.5, 0.2, 0.3], "a=1 lr=1": [0.4, 0.1], "a=1 lr=9": [math.nan], "a=1 lr=5": []}
    sweep = write_sweep(tmp_path / "sweep", jobs)
    assert not summarize_sweep(sweep)
    rows = read_table(sweep / "sweep.csv")
    assert [(row["job"], row["lr"], row["status"], row["best val/loss"], row["epoch"]) for row in rows] == [
        ("1", "1", "completed", "0.1", "2"),
        ("0", "0.1", "completed", "0.2", "2"),
        ("2", "9", "failed", "", ""),
        ("3", "5", "waiting", "", ""),
    ]
    assert "a" not in rows[0]
    printed = capsys.readouterr().out
    assert "failed    job 2 lr=9: val/loss is nan" in printed
    assert "  the best  backlit-evaluate run=sweep/1\n" in printed
    assert "  repeat    backlit-train a=1 lr=1\n" in printed
    assert "  resume    backlit-train -m resume=sweep   # 2 not completed\n" in printed
    assert "| 1 | 1 | completed | 0.1000 | 2 |" in (sweep / "sweep.md").read_text()


def test_a_corrupt_record_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=1": [0.1], "lr=2": [0.2], "lr=3": [0.3]})
    (sweep / "1" / "run.json").write_text('{"status": "comp')
    assert not summarize_sweep(sweep)
    assert [row["job"] for row in read_table(sweep / "sweep.csv")] == ["0", "2"]
    assert f"left out  {sweep / '1' / 'run.json'} must be readable JSON" in capsys.readouterr().out


def test_accuracies_are_not_ranked_among_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []

    def draw_and_keep(*arguments: Any, **options: Any) -> Figure:
        figures.append(draw_sweep(*arguments, **options))
        return figures[-1]

    monkeypatch.setattr("backlit.plots.sweep.draw_sweep", draw_and_keep)
    sweep = write_sweep(tmp_path / "sweep", {"e=a": [0.5, 0.4], "e=b": [0.3], "e=c": []})
    write_run(sweep / "2", ["e=c"], [0.0], optimized_metric="val/acc", optimized_mode="max")
    (sweep / "2" / "metrics.csv").write_text("step,epoch,val/acc\n10,0,0.9\n")
    assert summarize_sweep(sweep)
    rows = [(row["e"], row["best val/loss"], row["best val/acc"]) for row in read_table(sweep / "sweep.csv")]
    assert rows == [("b", "0.3", ""), ("a", "0.4", ""), ("c", "", "0.9")]
    printed = capsys.readouterr().out
    assert "run=sweep/1   # by val/loss" in printed
    assert "run=sweep/2   # by val/acc" in printed
    line: Any = figures[0].axes[0].lines[0]
    assert line.get_xydata()[:, 1].tolist() == [0.3, 0.4]


def test_an_unfinished_job_is_not_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=1": [0.5], "lr=2": []})
    write_run(sweep / "1", ["lr=2"], [0.1], status="interrupted")
    assert not summarize_sweep(sweep)
    printed = capsys.readouterr().out
    assert "run=sweep/0" in printed
    assert "# 1 not completed" in printed


def test_the_best_over_seeds_is_the_best_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = {"lr=1 seed=0": [0.1], "lr=1 seed=1": [0.9], "lr=2 seed=0": [0.2], "lr=2 seed=1": [0.4]}
    summarize_sweep(write_sweep(tmp_path / "sweep", jobs))
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines() if "mean" in line] == [
        ["mean", "lr=2", "0.3000", "±", "0.14", "(n", "=", "2)"],
        ["mean", "lr=1", "0.5000", "±", "0.57", "(n", "=", "2)"],
    ]
    assert "run=sweep/2" in printed


def test_a_summary_that_cannot_be_written_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=1": [0.1]})
    (sweep / "sweep.csv").mkdir()  # for root, a directory that may not be written is none
    assert summarize_sweep(sweep)
    said = capsys.readouterr()
    assert "best val/loss" in said.out
    assert f"error: the summary cannot be written into {sweep}: " in said.err
    assert json.loads((sweep / "sweep.json").read_text())["jobs"]


def test_a_job_that_had_fewer_threads_is_repeated_with_as_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for threads, limit in ((cpu_threads(), ""), (cpu_threads() + 1, f"OMP_NUM_THREADS={cpu_threads() + 1} ")):
        sweep = write_sweep(tmp_path / f"sweep{threads}", {"lr=1": [0.5], "lr=2": [0.7]})
        record = json.loads((sweep / "0" / "run.json").read_text())
        (sweep / "0" / "run.json").write_text(json.dumps({**record, "threads": threads}))
        summarize_sweep(sweep)
        assert f"  repeat    {limit}backlit-train lr=1\n" in capsys.readouterr().out
