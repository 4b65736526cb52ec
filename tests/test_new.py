"""``backlit-new``: what it writes, where it writes nothing, and that what it writes trains."""

import errno
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backlit.new import new_project
from tests.conftest import CallCommand


def below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("typed", ["my-cats", "deep/er/my-cats", "~/my-cats", "my cats/my-cats/"])
def test_the_name_of_the_directory_is_that_of_the_package(
    typed: str, tmp_path: Path, call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    ended = call_command("backlit-new", typed)
    assert ended.returncode == 0, ended.stderr
    directory = Path(typed).expanduser()
    assert ended.stdout.startswith("my_cats: a project")
    assert "cd " in ended.stdout
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {".gitignore", "Makefile", "README.md", "model.py", "test_digits.py"}
    assert not [path for path in files if "my_project" in path.read_text() or "my_project" in str(path)]
    table = tomllib.loads((directory / "pyproject.toml").read_text())
    assert table["project"]["dependencies"] == ["backlit"]
    assert table["tool"]["backlit"] == {"conf": "conf", "packages": ["my_cats"]}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("os", "NAME must be no module of Python, got os: backlit-new my_os"),
        ("torch", "NAME must be no installed package, got torch, which is "),
        ("backlit", "NAME must be no installed package, got backlit, which is "),
        ("3x", "NAME must have letters, digits, - and _, the first one a letter, and be no word of Python, got '3x': "),
        ("class", "NAME must have letters, digits, - and _, the first one a letter, and be no word of Python, got 'cl"),
        ("кошки", "NAME must have letters, digits, - and _, the first one a letter, and be no word of Python, got"),
        ("a.b", "NAME must have letters, digits, - and _, the first one a letter, and be no word of Python, got 'a.b'"),
        ("full", "NAME must be a new or empty directory, got "),
        ("file", "NAME must be a new directory, got "),
        ("file/my_cats", "file cannot be written: File exists"),
        ("--name=x", "the following arguments are required: NAME; for example: backlit-new my_project"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    typed: str, message: str, tmp_path: Path, call_command: CallCommand
) -> None:
    Path("full").mkdir()
    Path("full", "mine.txt").touch()
    Path("file").touch()
    before = below(tmp_path)
    ended = call_command("backlit-new", typed)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert message in ended.stderr
    assert below(tmp_path) == before


def failing(function: Callable[..., Any], error: BaseException, left: list[None]) -> Callable[..., Any]:
    """Return a function that fails once as many calls as `left` is long are made, of all that have this list."""

    def call(*arguments: Any, **more: Any) -> Any:
        if not left:
            raise error
        left.pop()
        return function(*arguments, **more)

    return call


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [False, True])
def test_a_project_is_written_whole_or_not_at_all(
    error: BaseException, exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "a" / "my_cats"
    if exists:
        directory.mkdir(parents=True)
    before = below(tmp_path)
    for at in range(20):
        left = [None] * at
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", failing(Path.write_text, error, left))
            patch.setattr(Path, "rename", failing(Path.rename, error, left))
            try:
                new_project(directory)
                break
            except type(error):
                assert below(tmp_path) == before
    else:
        pytest.fail("it always fails")
    assert at > 10
    assert new_project(tmp_path / "b" / "my_cats") == "my_cats"


@pytest.mark.slow
def test_the_tests_of_a_new_project_pass_and_its_images_are_digits(tmp_path: Path) -> None:
    directory = tmp_path / "my_cats"
    new_project(directory)
    # Installed with pip by its Makefile; here Python finds it without.
    more = {"PYTHONPATH": str(directory / "src"), "COLUMNS": "80"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error::DeprecationWarning:my_cats",
    ]
    ended = subprocess.run(command, cwd=directory, env=os.environ | more, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    command = [sys.executable, "-m", "my_cats.sample_images"]
    ended = subprocess.run(command, cwd=directory, env=os.environ | more, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert [len(list(folder.iterdir())) for folder in (directory / "data" / "digits").iterdir()] == [200] * 10
