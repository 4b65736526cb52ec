"""Files that are whole or not there; directories and locks that only one process has."""

import errno
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from filelock import FileLock

from backlit.errors import ConfigError
from backlit.runs.files import (
    atomic_write,
    describe_write_error,
    find_disk_error,
    is_disk_error,
    is_locked,
    is_relative_name,
    lock_directory,
    make_directory,
    new_directory,
    remove_empty_directories,
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


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_disk_without_locks_can_be_used(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock_directory(tmp_path).release()
    assert not is_locked(tmp_path)


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


KILLED = """
import os, sys
from pathlib import Path
from backlit.runs.files import atomic_write
with atomic_write(Path(sys.argv[1])) as path:
    path.write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.process
def test_the_temporary_files_of_killed_commands_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "last.ckpt")]
    killed = subprocess.run(command, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    (abandoned,) = tmp_path.iterdir()
    assert abandoned.read_text() == "half"
    (tmp_path / ".notes.0123456789abcdef0123456789abcdef").write_text("mine")
    with atomic_write(tmp_path / "other") as living:
        living.write_text("whole")
        write_json(tmp_path / "run.json", {})
        assert not abandoned.exists()
        assert living.exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"other", "run.json", ".notes.0123456789abcdef0123456789abcdef"}


def test_a_directory_is_made_though_another_command_removes_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, calls = os.mkdir, []

    def remove_parent_before(path: Path, *arguments: int) -> None:
        if path.name == "now":
            calls.append(path)
            if len(calls) == 2 and path.parent.exists():
                path.parent.rmdir()
        mkdir(path, *arguments)

    monkeypatch.setattr(os, "mkdir", remove_parent_before)
    made: list[Path] = []
    assert make_directory(tmp_path / "runs" / "now", made)
    assert len(calls) > 2
    assert made[-1].is_dir()
    assert not make_directory(tmp_path / "runs" / "now")
    remove_empty_directories(made)
    assert list(tmp_path.iterdir()) == []


def test_the_disk_error_behind_an_exception_is_found() -> None:
    error, disk = ValueError("unable to configure handler"), OSError(errno.ENOSPC, "full", "x")
    error.__context__ = disk
    assert find_disk_error(error) is disk
    assert find_disk_error(ValueError()) is None
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE a (b)")
    connection.close()
    found = find_disk_error(caught.value)
    assert found is not None
    assert (found.errno, describe_write_error(found)) == (errno.ENOSPC, "database or disk is full")
