"""`backlit-report`: any runs side by side; the summary of a sweep is tested in tests/sweeps/test_summary.py."""

import re
from pathlib import Path

import pytest
import yaml

from backlit.report import main, report
from backlit.sweeps.entries import sweep_entries
from tests.helpers.corruptions import run_corruptions, sweep_corruptions
from tests.helpers.sweeps import read_table, write_run, write_sweep


def test_runs_and_sweeps_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path / "one", {"data.x=1 lr=0.1": [0.5], "data.x=1 lr=1": [0.4]})
    write_run(tmp_path / "two", ["data.x=2", "lr=1"], [0.3, 0.2])
    report([tmp_path / "one", tmp_path / "two"], tmp_path / "report")
    rows = read_table(tmp_path / "report" / "report.csv")
    assert [(row["data.x"], row["lr"], row["best val/loss"]) for row in rows] == [
        ("2", "1", "0.2"),
        ("1", "1", "0.4"),
        ("1", "0.1", "0.5"),
    ]
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "3 runs" in capsys.readouterr().out


def test_each_task_has_a_table_of_what_varies_within_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configs = {
        "a": "{task_name: points, seed: 1, data: {seed: '${seed}', lr: 1}, optimizer: {_target_: torch.optim.SGD}}",
        # An argument that only Adam has says no more than that it is Adam.
        "b": "{task_name: points, seed: 2, data: {seed: '${seed}', lr: 1},"
        " optimizer: {_target_: torch.optim.Adam, eps: 1}}",
        "c": "{task_name: digits, seed: 2, data: {seed: '3', lr: 2}, search: {x: 1}}",
        "d": "{task_name: digits, seed: 2, data: {seed: '${seed}', lr: 2}, logger: {x: {y: 1}}, own: '${oc.env:HOME}'}",
    }
    for number, (name, config) in enumerate(configs.items()):
        directory = write_run(tmp_path / "runs" / name, ["seed=2", f"x={name}"], [0.1 * (number + 1)])
        (directory / ".hydra" / "config.yaml").write_text(config)
    report([tmp_path / "runs"], tmp_path / "report")
    lines = capsys.readouterr().out.splitlines()
    starts = [index for index, line in enumerate(lines) if "2 runs" in line]
    first, second = lines[: starts[1]], lines[starts[1] : -1]
    assert (first[0], second[0]) == ("digits: 2 runs", "points: 2 runs")
    assert first[1] == "  all with  seed=2 data.lr=2"
    assert first[2].split()[:3] == ["run", "data.seed", "status"]
    assert [line.split()[:3] for line in first[4:6]] == [["1", "c", "3"], ["2", "d", "2"]]
    assert second[1] == "  all with  seed=2 data.lr=1"
    assert second[2].split()[:4] == ["run", "seed", "optimizer", "status"]
    assert [line.split()[:4] for line in second[4:6]] == [["1", "a", "1", "SGD"], ["2", "b", "2", "Adam"]]
    written = (tmp_path / "report" / "report.md").read_text()
    assert "## points: 2 runs\n\nall with `seed=2 data.lr=1`\n\n| run | seed | optimizer | status |" in written
    assert "${" not in written
    table = read_table(tmp_path / "report" / "report.csv")
    assert [(row["run"], row["task_name"], row["data.seed"]) for row in table] == [
        ("a", "points", "1"),
        ("b", "points", "2"),
        ("c", "digits", "3"),
        ("d", "digits", "2"),
    ]


def test_jobs_of_a_sweep_are_named_by_their_numbers(tmp_path: Path) -> None:
    for number in range(11):
        write_run(tmp_path / "sweep" / f"{number}_lr_{number}", [f"lr={number}"], [0.1 * number])
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    report([tmp_path / "sweep"], tmp_path / "report")
    assert read_table(tmp_path / "report" / "report.csv")[10]["run"] == "10"
    assert "| 11 10 | 10 |" in (tmp_path / "report" / "report.md").read_text()


def test_a_corrupt_record_is_reported_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=1": [0.1], "lr=2": [0.2], "lr=3": [0.3]})
    (sweep / "1" / "run.json").write_text('{"status": "comp')
    report([sweep / "0", sweep / "1", sweep / "2"], tmp_path / "report")
    assert f"left out: {sweep / '1' / 'run.json'} must be" in capsys.readouterr().err
    assert [row["run"] for row in read_table(tmp_path / "report" / "report.csv")] == ["0", "2"]


@pytest.mark.slow
def test_each_broken_run_is_one_line_and_the_others_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs" / "good", ["lr=1"], [0.5, 0.4])
    names = {}
    for number, (name, corrupt) in enumerate(run_corruptions().items()):
        directory = write_run(tmp_path / "runs" / f"bad{number}_", ["lr=2"], [0.5, 0.3])
        corrupt(directory)
        if (directory / "run.json").is_symlink() or (directory / "run.json").exists():
            names[directory.name] = name
    report([tmp_path / "runs"], tmp_path / "report")
    printed = capsys.readouterr()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\ud800]", printed.out + printed.err)
    table = [row["run"] for row in read_table(tmp_path / "report" / "report.csv")]
    left_out = [line for line in printed.err.splitlines() if line.startswith("left out: ")]
    lines = [*table, *left_out]
    assert len(lines) == len(names) + 1
    assert "good" in table
    for directory_name, name in names.items():
        assert sum(directory_name in line for line in lines) == 1, name
    assert len(left_out) > 150
    assert all(len(line) < len(str(tmp_path)) + 250 for line in left_out)


@pytest.mark.slow
def test_each_broken_record_of_a_sweep_is_one_line_and_its_jobs_are_found(tmp_path: Path) -> None:
    for number, (name, corrupt) in enumerate(sweep_corruptions().items()):
        sweep = write_sweep(tmp_path / str(number), {"lr=1": [0.5], "lr=2": [0.4]})
        corrupt(sweep)
        entries, problems = sweep_entries(sweep)
        is_read = "override is" in name or "x" * 9 in name
        assert is_read or len(entries) == 2, name
        assert len(problems) <= 1, name
        assert all(problem.isprintable() for problem in problems), name


def test_without_a_readable_run_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs" / "bad", ["lr=1"], [0.5]).joinpath("run.json").write_text("{")
    with pytest.raises(ValueError, match=r"^no run can be read: .*bad/run\.json must be readable JSON"):
        report([tmp_path / "runs"])
    write_sweep(tmp_path / "sweep", {"lr=1": [0.5]}).joinpath("0", "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"^no job of .*sweep can be read: .*0/run\.json must be readable JSON"):
        report([tmp_path / "sweep"])
    assert not (tmp_path / "outputs").exists()
    assert not (tmp_path / "sweep" / "sweep.csv").exists()


@pytest.mark.parametrize("value", ["['[/data/a]']", "['[red]x[/]']", "['$x', '$\\frac{']", "[':smile:']"])
def test_markup_formulas_and_emoji_in_values_are_shown_as_they_are(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, tags in enumerate((value, "[other]")):
        directory = write_run(tmp_path / "runs" / str(number), [], [0.5])
        (directory / ".hydra" / "config.yaml").write_text(f"tags: {tags}\n")
    report([tmp_path / "runs"], tmp_path / "report")
    printed = capsys.readouterr()
    assert str(yaml.safe_load(value)) in printed.out
    assert printed.err == ""
    assert (tmp_path / "report" / "report.png").exists()


def test_a_picture_that_cannot_be_drawn_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("backlit.plots.overlaid_curves.draw_overlaid_curves", fail)
    monkeypatch.setattr("backlit.plots.sweep.draw_sweep", fail)
    write_sweep(tmp_path / "sweep", {"lr=1": [0.5], "lr=2": [0.4]})
    report([tmp_path / "sweep"], tmp_path / "report")
    report([tmp_path / "sweep"])
    printed = capsys.readouterr()
    assert printed.err == "warning: report.png was not drawn: no ink\nwarning: sweep.png was not drawn: no ink\n"
    assert "report/report.csv, report.md\n" in printed.out
    assert (tmp_path / "sweep" / "sweep.csv").exists()


@pytest.mark.parametrize("name", ["sweep.json", "multirun.yaml"])
def test_the_directory_of_a_sweep_gets_its_summary(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "sweep" / "0_lr_1", ["lr=1"], [0.1])
    (tmp_path / "sweep" / name).write_text("{}")
    report([tmp_path / "sweep"])
    assert capsys.readouterr().out.startswith("sweep sweep")
    assert (tmp_path / "sweep" / "sweep.csv").exists()
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", "PATH must be a directory, got none, which does not exist"),
        (".", "no run.json in or below .; there is"),
    ],
)
def test_a_path_without_runs_is_an_error_and_makes_nothing(
    path: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("something").mkdir()
    monkeypatch.setattr("sys.argv", ["backlit-report", path])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(path.name for path in Path().iterdir()) == ["something"]
