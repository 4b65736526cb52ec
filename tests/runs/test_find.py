import os
from pathlib import Path

import pytest

from backlit.runs.files import new_directory, write_json
from backlit.runs.find import directories_with, find_latest_run, latest_directories


def test_the_latest_of_a_thousand_runs_is_found_at_once(tmp_path: Path) -> None:
    for number in range(1000):
        directory = tmp_path / ("points" if number % 2 else "mnist_mlp") / "runs" / f"{number:04}"
        (directory / "checkpoints").mkdir(parents=True)
        (directory / "run.json").write_text("{}")
        os.utime(directory / "run.json", (number, number))
        if number < 990:  # the others have not got so far
            (directory / "checkpoints" / "best.ckpt").touch()
    assert find_latest_run(tmp_path).name == "0989"
    assert latest_directories("run.json", tmp_path)[0].name == "0999"


def test_the_latest_run_is_the_one_written_to_last(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no run with a checkpoint in"):
        find_latest_run(tmp_path)
    for name in ("b", "a"):
        directory = new_directory(tmp_path / "task" / "runs" / name)
        write_json(directory / "run.json", {})
        (directory / "checkpoints").mkdir()
        (directory / "checkpoints" / "last.ckpt").write_text("")
        stamp = {"b": 1_000_000_000, "a": 2_000_000_000}[name]
        os.utime(directory / "run.json", (stamp, stamp))
    assert find_latest_run(tmp_path).name == "a"


def test_runs_are_found_at_any_depth_and_by_links(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    for place in (outputs / "team/points/runs/1", outputs / "points/sweeps/1/0", tmp_path / "other disk/runs/2"):
        place.mkdir(parents=True)
        (place / "run.json").write_text("{}")
        (place / "checkpoints").mkdir()
    (outputs / "linked").symlink_to(tmp_path / "other disk")
    (outputs / "points" / "up").symlink_to(outputs)
    found = [str(path.relative_to(outputs)) for path in directories_with("run.json", outputs)]
    assert found == ["linked/runs/2", "points/sweeps/1/0", "team/points/runs/1"]


def test_the_latest_run_is_none_that_was_only_tried(tmp_path: Path) -> None:
    for task in ("points", "debug"):
        directory = new_directory(tmp_path / task / "runs" / "now")
        write_json(directory / "run.json", {})
    os.utime(tmp_path / "points" / "runs" / "now" / "run.json", (0, 0))
    assert [path.parts[-3] for path in latest_directories("run.json", tmp_path)] == ["points"]


def test_a_run_that_a_search_has_stopped_is_not_the_latest(tmp_path: Path) -> None:
    for stamp, status in enumerate(("completed", "pruned")):
        directory = tmp_path / status
        (directory / "checkpoints").mkdir(parents=True)
        (directory / "checkpoints" / "last.ckpt").touch()
        write_json(directory / "run.json", {"status": status})
        os.utime(directory / "run.json", (stamp, stamp))
    assert find_latest_run(tmp_path).name == "completed"
