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


@pytest.fixture
def animals() -> None:
    """A folder per class, with what lies about in folders."""
    for name in ("cat/2.PNG", "cat/1.jpg", "dog/old/1.png", "dog/._1.png", "dog/.DS_Store", "dog/notes.txt", "top.bmp"):
        Path("animals", name).parent.mkdir(parents=True, exist_ok=True)
        Path("animals", name).touch()
    Path("animals/.hidden").mkdir()
    Path("animals/.hidden/1.png").touch()
    Path("animals/dog/loop").symlink_to(Path("animals").resolve())
    Path("animals/dog/broken.png").symlink_to("nowhere.png")
    Path("animals/linked.png").symlink_to(Path("digits/b.png").resolve())
    Path("animals/none").mkdir()
    Path("animals/x.png").mkdir()


IMAGES = {".png", ".jpg", ".bmp"}
ALL = ["cat/1.jpg", "cat/2.PNG", "dog/old/1.png", "linked.png", "top.bmp"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["digits"], ["digits/a.JPG", "digits/b.png"]),
        (["digits/*"], ["digits/a.JPG", "digits/b.png", "digits/notes.txt"]),
        (["x[1].csv", "-"], ["x[1].csv", "-"]),  # a file's own name is no pattern
        (["digits/b.png", "digits"], ["digits/b.png", "digits/a.JPG", "digits/b.png"]),
        (["animals"], [f"animals/{name}" for name in ALL]),
        (["animals/"], [f"animals/{name}" for name in ALL]),
        (["animals/*/*.jpg"], ["animals/cat/1.jpg"]),
        (["animals/*/*.[pP]*"], ["animals/cat/2.PNG"]),
        (["animals/[cd]*"], ["animals/cat/1.jpg", "animals/cat/2.PNG", "animals/dog/old/1.png"]),
        (["animals/**/1.*"], ["animals/cat/1.jpg", "animals/dog/old/1.png"]),
    ],
)
def test_names_are_files_directories_of_images_or_patterns(
    names: list[str], expected: list[str], animals: None
) -> None:
    if "**" in names[0]:
        Path("animals/dog/loop").unlink()  # glob follows it forty times
    found = find_files(names, IMAGES)
    assert [file for file in found if "/loop/" not in file] == expected
    assert len(find_files(names, IMAGES)) < 10


def test_a_directory_of_tables_is_read_too() -> None:
    for name in ("tables/b/2.csv", "tables/1.CSV", "tables/readme.md"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert find_files(["tables"], (".csv",), "tables") == ["tables/1.CSV", "tables/b/2.csv"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "has no images (.bmp, .jpg, .png)"),
        ("*.gif", "does not exist and matches nothing"),
        ("emp*", "matches only directories without images"),
    ],
)
def test_a_name_without_a_file_is_an_error(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_files(["digits", name], IMAGES)
    assert str(caught.value) == f"input must be files, a directory of images, or -, got {name}, which {reason}"


def test_a_pipe_is_no_file() -> None:
    os.mkfifo("pipe")
    with pytest.raises(ConfigError, match=r"got pipe, which is a pipe or a device; to read standard input: input=-$"):
        find_files(["pipe"], IMAGES)


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
