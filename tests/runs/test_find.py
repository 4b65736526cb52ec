import os
from pathlib import Path

import pytest

from backlit.runs.files import new_directory, write_json
from backlit.runs.find import find_latest_run


def test_the_latest_of_a_thousand_runs_is_found_at_once(tmp_path: Path) -> None:
    for number in range(1000):
        directory = tmp_path / ("points" if number % 2 else "mnist_mlp") / "runs" / f"{number:04}"
        (directory / "checkpoints").mkdir(parents=True)
        (directory / "run.json").write_text("{}")
        os.utime(directory / "run.json", (number, number))
        if number < 990:  # the others have not got so far
            (directory / "checkpoints" / "best.ckpt").touch()
    assert find_latest_run(tmp_path).name == "0989"
    assert find_latest_run(tmp_path, with_checkpoint=False).name == "0999"


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
