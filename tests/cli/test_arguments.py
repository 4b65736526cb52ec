"""What is typed, read as it is meant: flags anywhere, paths and texts of any characters."""

from pathlib import Path

import pytest

from backlit.cli.arguments import read_arguments, read_path
from backlit.text import assignment
from tests.helpers.names import ODD_NAMES


def test_flags_may_stand_anywhere() -> None:
    typed = ["experiment=points", "-m", "optimizer.lr=0.1,0.2", "--config-dir", "a=b", "seed=1", "--info", "seed=2"]
    expected = ["-m", "--config-dir", "a=b", "--info", "experiment=points", "optimizer.lr=0.1,0.2", "seed=1", "seed=2"]
    assert read_arguments(typed, "train") == expected
    assert read_arguments(expected, "train") == expected


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_path_is_read_as_it_is_and_as_it_is_printed(name: str, tmp_path: Path) -> None:
    for typed in (name, assignment("run", name).removeprefix("run=")):
        (tmp_path / name).mkdir(exist_ok=True, parents=True)
        assert read_path(typed) == name
        (argument,) = read_arguments([f"run={typed}"], "evaluate")
        assert read_path(argument.removeprefix("run=")) == name
        assert read_arguments([argument], "evaluate") == [argument]  # Lightning's processes get what was read
    (tmp_path / name).rmdir()
    assert read_path(assignment("run", name).removeprefix("run=")) == name


def test_a_path_may_be_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_path("~/a run") == f"{tmp_path}/a run"
    assert read_arguments(["run=~/x"], "evaluate") == [f"run={tmp_path}/x"]
    assert read_path("latest") == "latest"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("task_name=größe", "task_name='größe'"),
        ("task_name=a!b;c", "task_name='a!b;c'"),
        ("ckpt_path=it's.ckpt", r"ckpt_path='it\'s.ckpt'"),
        ("'experiment'=x", None),
        ("experiment=points.yaml", "experiment=points"),
        ("hydra.run.dir=outputs/${task_name}", "hydra.run.dir=outputs/${task_name}"),
        ("model.hidden_sizes=[8,8]", "model.hidden_sizes=[8,8]"),
    ],
)
def test_what_has_one_meaning_is_read(typed: str, read: str | None) -> None:
    if read is None:
        with pytest.raises(ValueError, match="a key has letters"):
            read_arguments([typed], "train")
    else:
        assert read_arguments([typed], "train") == [read]
