import os
from pathlib import Path

import pytest

from backlit.data.input_files import find_files, printable_name, read_stdin
from backlit.errors import ConfigError


@pytest.fixture(autouse=True)
def input_files() -> None:
    Path("digits").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt"):
        Path("digits", name).touch()
    Path("empty").mkdir()
    Path("x[1].csv").touch()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["digits"], ["digits/a.JPG", "digits/b.png"]),
        (["digits/*"], ["digits/a.JPG", "digits/b.png", "digits/notes.txt"]),
        (["x[1].csv", "-"], ["x[1].csv", "-"]),  # a file's own name is no pattern
        (["digits/b.png", "digits"], ["digits/b.png", "digits/a.JPG", "digits/b.png"]),
    ],
)
def test_names_are_files_directories_of_images_or_patterns(names: list[str], expected: list[str]) -> None:
    assert find_files(names) == expected


@pytest.mark.parametrize(
    ("name", "reason"), [("empty", "has no images"), ("*.gif", "does not exist and matches nothing")]
)
def test_a_name_without_a_file_is_an_error(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_files(["digits", name])
    assert str(caught.value) == f"input must be files, a directory of images, or -, got {name}, which {reason}"


def test_a_pipe_is_no_file() -> None:
    os.mkfifo("pipe")
    with pytest.raises(ConfigError, match=r"got pipe, which is a pipe or a device; to read standard input: input=-$"):
        find_files(["pipe"])


def test_standard_input_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backlit.data.input_files.MOST_STDIN_BYTES", 1000)
    before = os.dup(0)
    try:
        with open("/dev/zero") as endless:
            os.dup2(endless.fileno(), 0)
        with pytest.raises(ConfigError, match=r"^standard input must be at most .* GB, and is more$"):
            read_stdin()
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_bytes_that_are_no_text_are_replaced_in_a_printed_name() -> None:
    assert printable_name("ä\udcff.png") == "ä\ufffd.png"
