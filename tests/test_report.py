import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from backlit.entries import ranked, sweep_entries
from backlit.report import as_value, main, report, sum_up
from backlit.report_pictures import draw_sweep
from backlit.run import write_json


def make_run(directory: Path, overrides: list[str], losses: list[float], **record: Any) -> Path:
    """Write what a run of as many epochs as there are losses leaves."""
    (directory / ".hydra").mkdir(parents=True)
    config: dict[str, Any] = {}
    for override in overrides:
        key, value = override.split("=")
        group, _, name = key.rpartition(".")
        (config.setdefault(group, {}) if group else config)[name] = yaml.safe_load(value)
    (directory / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    basic = {"status": "completed", "optimized_metric": "val/loss", "optimized_mode": "min", "error": None}
    write_json(directory / "run.json", {**basic, "overrides": overrides, "duration_s": 1.5, **record})
    rows = "".join(f"{10 * (epoch + 1)},{epoch},{loss}\n" for epoch, loss in enumerate(losses))
    (directory / "metrics.csv").write_text("step,epoch,val/loss\n" + rows)
    finite = [loss for loss in losses if math.isfinite(loss)]
    metrics = {"val/loss": losses[-1], "val/loss_best": min(finite, default=math.nan), "test/acc": 0.5}
    write_json(directory / "metrics.json", {"metrics": metrics})
    return directory


def make_sweep(directory: Path, jobs: dict[str, list[float]]) -> Path:
    """Write a sweep: overrides of a job, separated by a space, to its validation losses; none, if it has not begun."""
    recorded = []
    for number, (overrides, losses) in enumerate(jobs.items()):
        recorded.append({"number": number, "directory": str(number), "overrides": overrides.split(" ")})
        if losses:
            make_run(directory / str(number), overrides.split(" "), losses)
    directory.mkdir(exist_ok=True)
    write_json(directory / "sweep.json", {"arguments": [], "jobs": recorded})
    return directory


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_is_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = {"a=1 lr=0.1": [0.5, 0.2, 0.3], "a=1 lr=1": [0.4, 0.1], "a=1 lr=9": [math.nan], "a=1 lr=5": []}
    sweep = make_sweep(tmp_path / "sweep", jobs)
    assert not sum_up(sweep)
    rows = read_csv(sweep / "sweep.csv")
    assert [(row["job"], row["lr"], row["status"], row["best val/loss"], row["epoch"]) for row in rows] == [
        ("1", "1", "completed", "0.1", "2"),
        ("0", "0.1", "completed", "0.2", "2"),
        ("2", "9", "failed", "", ""),
        ("3", "5", "waiting", "", ""),
    ]
    assert "a" not in rows[0]
    told = capsys.readouterr().out
    assert "failed    job 2 lr=9: val/loss is nan" in told
    assert "backlit-evaluate run=sweep/1" in told
    assert "backlit-train a=1 lr=1" in told
    assert "backlit-train -m resume=sweep   (2 not completed)" in told
    assert "| 1 | 1 | completed | 0.1 | 2 |" in (sweep / "sweep.md").read_text()


def test_a_corrupt_record_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path / "sweep", {"lr=1": [0.1], "lr=2": [0.2], "lr=3": [0.3]})
    (sweep / "1" / "run.json").write_text('{"status": "comp')
    assert not sum_up(sweep)
    assert [row["job"] for row in read_csv(sweep / "sweep.csv")] == ["0", "2"]
    assert f"left out  {sweep / '1' / 'run.json'} must be readable JSON" in capsys.readouterr().out
    report([sweep / "0", sweep / "1", sweep / "2"], tmp_path / "report")
    assert f"left out: {sweep / '1' / 'run.json'} must be" in capsys.readouterr().err
    assert len(read_csv(tmp_path / "report" / "report.csv")) == 2


def test_runs_and_sweeps_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sweep(tmp_path / "one", {"data.x=1 lr=0.1": [0.5], "data.x=1 lr=1": [0.4]})
    make_run(tmp_path / "two", ["data.x=2", "lr=1"], [0.3, 0.2])
    report([tmp_path / "one", tmp_path / "two"], tmp_path / "report")
    rows = read_csv(tmp_path / "report" / "report.csv")
    assert [(row["data.x"], row["lr"], row["best val/loss"]) for row in rows] == [
        ("2", "1", "0.2"),
        ("1", "1", "0.4"),
        ("1", "0.1", "0.5"),
    ]
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "3 runs" in capsys.readouterr().out


def test_accuracies_are_not_ranked_among_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path / "sweep", {"e=a": [0.5, 0.4], "e=b": [0.3], "e=c": []})
    make_run(sweep / "2", ["e=c"], [0.0], optimized_metric="val/acc", optimized_mode="max")
    (sweep / "2" / "metrics.csv").write_text("step,epoch,val/acc\n10,0,0.9\n")
    assert sum_up(sweep)
    rows = [(row["e"], row["best val/loss"], row["best val/acc"]) for row in read_csv(sweep / "sweep.csv")]
    assert rows == [("b", "0.3", ""), ("a", "0.4", ""), ("c", "", "0.9")]
    told = capsys.readouterr().out
    assert "run=sweep/1   (by val/loss)" in told
    assert "run=sweep/2   (by val/acc)" in told
    (axes,) = draw_sweep(ranked(sweep_entries(sweep)[0])).axes
    line: Any = axes.lines[0]
    assert line.get_xydata()[:, 1].tolist() == [0.3, 0.4]


def test_an_unfinished_job_is_not_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path / "sweep", {"lr=1": [0.5], "lr=2": []})
    make_run(sweep / "1", ["lr=2"], [0.1], status="interrupted")
    assert not sum_up(sweep)
    told = capsys.readouterr().out
    assert "run=sweep/0" in told
    assert "(1 not completed)" in told


def test_the_best_over_seeds_is_the_best_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = {"lr=1 seed=0": [0.1], "lr=1 seed=1": [0.9], "lr=2 seed=0": [0.2], "lr=2 seed=1": [0.4]}
    sum_up(make_sweep(tmp_path / "sweep", jobs))
    told = capsys.readouterr().out
    assert [line.split() for line in told.splitlines() if "mean" in line] == [
        ["mean", "lr=2", "0.3", "±", "0.14", "(n", "=", "2)"],
        ["mean", "lr=1", "0.5", "±", "0.57", "(n", "=", "2)"],
    ]
    assert "run=sweep/2" in told


def test_a_path_that_hydra_could_misread_is_quoted(tmp_path: Path) -> None:
    assert as_value(tmp_path / "0_lr_0.1") == "0_lr_0.1"
    assert as_value(tmp_path / "lr=0.1,x") == "''\"'\"'lr=0.1,x'\"'\"''"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", "PATH must be a directory, got none, which does not exist"),
        (".", "no run.json in or below .; there is"),
    ],
)
def test_a_path_without_runs(
    path: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("something").mkdir()
    monkeypatch.setattr("sys.argv", ["backlit-report", path])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(path.name for path in Path().iterdir()) == ["something"]


def test_a_summary_that_cannot_be_written_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path / "sweep", {"lr=1": [0.1]})
    (sweep / "sweep.csv").mkdir()  # for root, a directory that may not be written is none
    assert sum_up(sweep)
    said = capsys.readouterr()
    assert "best val/loss" in said.out
    assert f"error: the summary cannot be written into {sweep}: " in said.err
    assert json.loads((sweep / "sweep.json").read_text())["jobs"]
