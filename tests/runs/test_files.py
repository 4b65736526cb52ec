"""Files that are whole or not there; directories and locks that only one process has."""

import errno
import json
from pathlib import Path

import pytest

from backlit.errors import ConfigError
from backlit.runs.files import atomic_write, is_disk_error, lock_directory, new_directory, write_json


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    def fail_in_the_middle() -> None:
        with atomic_write(path) as temporary:
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


def test_the_replaced_file_is_kept_under_another_name(tmp_path: Path) -> None:
    path, previous = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two", "three"):
        with atomic_write(path, previous) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), previous.read_text()) == ("three", "two")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_locked_directory_is_reported(tmp_path: Path) -> None:
    lock = lock_directory(tmp_path)
    with pytest.raises(ConfigError, match="is being run by another process; wait for it, or end it"):
        lock_directory(tmp_path)
    lock.release()
    lock_directory(tmp_path).release()
    with pytest.raises(ConfigError, match=r"cannot be written: .*; to resume elsewhere: resume="):
        lock_directory(Path("/proc/nothing"))


@pytest.mark.parametrize(("error", "is_disk"), [(errno.ENOSPC, True), (errno.EFBIG, True), (errno.ENOENT, False)])
def test_errors_of_a_disk_are_told_from_others(error: int, is_disk: bool) -> None:
    assert is_disk_error(OSError(error, "reason")) == is_disk
    assert not is_disk_error(ValueError(error))
