import errno
import json
import os
from pathlib import Path

import pytest

from backlit.run import from_here, latest_run, new_directory, table, whole_file, write_json


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    def fail_in_the_middle() -> None:
        with whole_file(path) as temporary:
            temporary.write_text('{"a": ')
            raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match=r"disk full: .*metrics.json"):
        fail_in_the_middle()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]


def test_two_runs_in_one_second_get_two_directories(tmp_path: Path) -> None:
    wanted = tmp_path / "runs" / "2026-01-01_00-00-00"
    made = [new_directory(wanted) for _ in range(3)]
    assert [path.name for path in made] == [wanted.name, f"{wanted.name}_2", f"{wanted.name}_3"]
    assert all(path.is_dir() for path in made)


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="runs"):
        new_directory(tmp_path / "runs" / "now")


def test_the_latest_of_a_thousand_runs_is_found_at_once(tmp_path: Path) -> None:
    for number in range(1000):
        directory = tmp_path / ("points" if number % 2 else "mnist_mlp") / "runs" / f"{number:04}"
        (directory / "checkpoints").mkdir(parents=True)
        (directory / "run.json").write_text("{}")
        os.utime(directory / "run.json", (number, number))
        if number < 990:  # the others have not got so far
            (directory / "checkpoints" / "best.ckpt").touch()
    assert latest_run(tmp_path).name == "0989"
    assert latest_run(tmp_path, with_checkpoint=False).name == "0999"


def test_the_latest_run_is_the_one_written_to_last(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no run with a checkpoint in"):
        latest_run(tmp_path)
    for name in ("b", "a"):
        directory = new_directory(tmp_path / "task" / "runs" / name)
        write_json(directory / "run.json", {})
        (directory / "checkpoints").mkdir()
        (directory / "checkpoints" / "last.ckpt").write_text("")
        stamp = {"b": 1_000_000_000, "a": 2_000_000_000}[name]
        os.utime(directory / "run.json", (stamp, stamp))
    assert latest_run(tmp_path).name == "a"


def test_a_path_is_shown_as_it_may_be_typed(tmp_path: Path) -> None:
    assert from_here(tmp_path / "outputs" / "a run") == "'outputs/a run'"
    assert from_here(Path("/")) == "/"


def test_the_table_has_a_row_a_metric_and_a_column_a_stage() -> None:
    lines = table({"train/loss": 0.5, "train/loss_epoch": 9.0, "val/loss": 0.25, "val/acc": 1.0}).splitlines()
    assert lines[0].split() == ["train", "val"]
    assert lines[2].split() == ["loss", "0.5000", "0.2500"]
    assert lines[3].split() == ["acc", "1.0000"]
    assert len(lines) == 4
