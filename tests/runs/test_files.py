"""Files that are whole or not there; directories and locks that only one process has."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from filelock import FileLock

from backlit.errors import ConfigError
from backlit.runs.files import (
    atomic_write,
    is_disk_error,
    is_locked,
    is_relative_name,
    lock_directory,
    new_directory,
    write_json,
)
from tests.helpers.processes import wait_until


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
    with FileLock(tmp_path / ".lock"):  # as another process has it
        assert is_locked(tmp_path)
        with pytest.raises(ConfigError, match="is being run by another process; wait for it, or end it"):
            lock_directory(tmp_path)
    assert not is_locked(tmp_path)
    lock = lock_directory(tmp_path)
    lock_directory(tmp_path).release()  # the same process may have it twice
    assert is_locked(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be written: .*; to resume elsewhere: resume="):
        lock_directory(Path("/proc/nothing"))


@pytest.mark.parametrize(("error", "is_disk"), [(errno.ENOSPC, True), (errno.EFBIG, True), (errno.ENOENT, False)])
def test_errors_of_a_disk_are_told_from_others(error: int, is_disk: bool) -> None:
    assert is_disk_error(OSError(error, "reason")) == is_disk
    assert not is_disk_error(ValueError(error))


@pytest.mark.process
def test_a_lock_ends_with_its_process_though_a_child_of_it_lives(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from backlit.runs.files import lock_directory\n"
        "lock = lock_directory(Path(sys.argv[1]))\n"
        "if os.fork() == 0: time.sleep(60)\n"  # as a worker of a data loader
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert is_locked(tmp_path)
        process.kill()
        process.wait()
        wait_until(lambda: not is_locked(tmp_path))  # the child has closed its copy of the file by then
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("name", "is_name"),
    [
        ("points", True),
        ("team/ü = 'a', [b] $c ~", True),
        ("", False),
        ("a//b", False),
        ("/tmp/x", False),
        ("a/../../b", False),
        ("a\nb", False),
        ("x" * 300, False),
    ],
)
def test_a_name_stays_below_its_directory(name: str, is_name: bool) -> None:
    assert is_relative_name(name) == is_name
