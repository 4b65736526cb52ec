import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from backlit.report import (
    Entry,
    as_value,
    differing,
    draw_curves,
    draw_sweep,
    find_runs,
    main,
    ranked,
    report,
    sum_up,
    sweep_entries,
    wants_log,
)
from backlit.run import Run, write_json


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


def test_max_is_best_where_the_config_says_so(tmp_path: Path) -> None:
    for name, values in {"low": [0.1, 0.2], "high": [0.3, 0.9, 0.4]}.items():
        make_run(tmp_path / name, [], values, optimized_mode="max")
    entries, _ = find_runs([tmp_path])
    assert [(entry.name, entry.best) for entry in ranked(entries)] == [("high", (0.9, 2)), ("low", (0.2, 2))]


@given(st.lists(st.floats(-10, 10) | st.none(), min_size=1, max_size=8), st.sampled_from(["min", "max"]))
def test_ranking_sorts_and_loses_nothing(values: list[float | None], mode: str) -> None:
    entries = []
    for value in values:
        run = Run(Path("x"), {"status": "completed", "optimized_metric": "m", "optimized_mode": mode})
        run.__dict__.update(rows=[] if value is None else [{"m": value, "epoch": 0}], metrics={})
        entries.append(Entry("x", Path("x"), run))
    found = [entry.best[0] if entry.best else None for entry in ranked(entries)]
    numbers = [value for value in values if value is not None]
    assert found == sorted(numbers, reverse=mode == "max") + [None] * (len(values) - len(numbers))


def test_a_corrupt_record_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path / "sweep", {"lr=1": [0.1], "lr=2": [0.2], "lr=3": [0.3]})
    (sweep / "1" / "run.json").write_text('{"status": "comp')
    assert not sum_up(sweep)
    assert [row["job"] for row in read_csv(sweep / "sweep.csv")] == ["0", "2"]
    assert f"left out  {sweep / '1' / 'run.json'} must be readable JSON" in capsys.readouterr().out
    report([sweep / "0", sweep / "1", sweep / "2"], tmp_path / "report")
    assert f"left out: {sweep / '1' / 'run.json'} must be" in capsys.readouterr().err
    assert len(read_csv(tmp_path / "report" / "report.csv")) == 2


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path: Path) -> None:
    import os
    import platform

    gone = make_run(tmp_path / "gone", [], [1.0], status="running", host=platform.node(), pid=2**22 + 1)
    here = make_run(tmp_path / "here", [], [1.0], status="running", host=platform.node(), pid=os.getpid())
    elsewhere = make_run(tmp_path / "elsewhere", [], [1.0], status="running", host="another", pid=1)
    runs = [Run.read(directory) for directory in (gone, here, elsewhere)]
    assert [run.status for run in runs if run] == ["interrupted", "running", "running"]


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
    (line,) = axes_of(draw_sweep(ranked(sweep_entries(sweep)[0]))).lines
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


def test_a_key_that_came_later_is_filled_in(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", {"seed=0": [0.5], "seed=0 optimizer.lr=2": [0.4]})
    (sweep / "0" / ".hydra" / "config.yaml").write_text("seed: 0\noptimizer:\n  lr: 0.1\n")
    sum_up(sweep)
    assert [row["optimizer.lr"] for row in read_csv(sweep / "sweep.csv")] == ["2", "0.1"]


def entries_of(tmp_path: Path, jobs: dict[str, list[float]]) -> list[Entry]:
    return ranked(sweep_entries(make_sweep(tmp_path / "sweep", jobs))[0])


def axes_of(figure: Figure) -> Any:
    return figure.axes[0]


def test_the_picture_of_one_number(tmp_path: Path) -> None:
    axes = axes_of(draw_sweep(entries_of(tmp_path, {"lr=0.001": [0.5], "lr=0.1": [0.4], "lr=0.01": [0.3]})))
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[0.001, 0.5], [0.01, 0.3], [0.1, 0.4]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "best val/loss")


def test_the_picture_averages_seeds(tmp_path: Path) -> None:
    jobs = {f"lr={lr} seed={seed}": [float(lr + seed)] for lr in (1, 2) for seed in (0, 1, 2)}
    axes = axes_of(draw_sweep(entries_of(tmp_path, jobs)))
    (container,) = axes.containers
    assert container.lines[0].get_xydata().tolist() == [[1, 2], [2, 3]]
    (bars,) = container.lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1, 3], [2, 4]]  # ± stdev of 0, 1, 2


def test_the_picture_of_two_is_a_map(tmp_path: Path) -> None:
    jobs = {f"lr={lr} width={width}": [float(lr * width)] for lr in (1, 10) for width in (2, 3, 5)}
    axes = axes_of(draw_sweep(entries_of(tmp_path, jobs)))
    (image,) = axes.images
    assert image.get_array().tolist() == [[2, 20], [3, 30], [5, 50]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10"]
    assert {text.get_text() for text in axes.texts} == {"2", "20", "3", "30", "5", "50"}


def test_the_picture_of_words_and_of_three(tmp_path: Path) -> None:
    axes = axes_of(draw_sweep(entries_of(tmp_path, {"optimizer=sgd": [0.5], "optimizer=adam": [0.4]})))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["adam", "sgd"]
    figure = draw_sweep(entries_of(tmp_path / "three", {"a=1 b=1 c=1": [1.0], "a=2 b=2 c=2": [2.0]}))
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b", "c"]


def test_curves_lie_over_each_other(tmp_path: Path) -> None:
    axes = axes_of(draw_curves(entries_of(tmp_path, {"lr=1": [0.5, 0.4], "lr=2": [0.3, 0.2, 0.1]})))
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[10, 0.5], [20, 0.4]],
        [[10, 0.3], [20, 0.2], [30, 0.1]],
    ]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=4))
def test_differing_keeps_what_is_not_the_same(settings: list[dict[str, str]]) -> None:
    kept = differing(settings)
    for key in "abc":
        is_same = len({one.get(key) for one in settings}) == 1
        for one, left in zip(settings, kept, strict=True):
            assert left.get(key) == (None if is_same else one.get(key))


def test_log_axes() -> None:
    assert wants_log([1e-4, 1e-3, 1e-2])
    assert not wants_log([1, 2, 3])
    assert not wants_log([0, 1000])
    assert not wants_log([5])


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
