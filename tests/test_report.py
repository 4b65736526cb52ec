"""`backlit-report`: any runs side by side; the summary of a sweep is tested in tests/sweeps/test_summary.py."""

from pathlib import Path

import pytest

from backlit.report import main, report
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


def test_a_corrupt_record_is_reported_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=1": [0.1], "lr=2": [0.2], "lr=3": [0.3]})
    (sweep / "1" / "run.json").write_text('{"status": "comp')
    report([sweep / "0", sweep / "1", sweep / "2"], tmp_path / "report")
    assert f"left out: {sweep / '1' / 'run.json'} must be" in capsys.readouterr().err
    assert [row["run"] for row in read_table(tmp_path / "report" / "report.csv")] == ["0", "2"]


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
