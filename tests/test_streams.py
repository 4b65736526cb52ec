"""What a command does, and its exit code, do not depend on who listens."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlit.streams import dropping_streams, open_dropping_stream, open_product_stream
from tests.conftest import CallCommand
from tests.helpers.commands import QUICK, hydra_as_found
from tests.helpers.runs import read_record

LONG = "x" * 100_000  # more than a buffer, and than a pipe


@contextlib.contextmanager
def broken(kind: str) -> Iterator[int]:
    """A descriptor that cannot be written: of a full disk, of a pipe without a reader, or open for reading only."""
    if kind == "pipe":
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open("/dev/full" if kind == "full" else os.devnull, os.O_WRONLY if kind == "full" else 0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["full", "pipe", "read-only"])
def test_what_cannot_be_written_is_dropped(kind: str) -> None:
    with broken(kind) as descriptor, open_dropping_stream(descriptor) as stream:
        print(LONG, file=stream, flush=True)
        print("more", file=stream)


def test_a_non_blocking_pipe_gets_everything() -> None:
    reader, descriptor = os.pipe()
    os.set_blocking(descriptor, False)
    received: list[bytes] = []

    def read() -> None:
        time.sleep(0.05)  # the pipe is full by then
        with open(reader, "rb") as file:
            received.append(file.read())

    thread = threading.Thread(target=read)
    thread.start()
    with open_dropping_stream(descriptor) as stream:
        stream.write(LONG)
    os.close(descriptor)
    thread.join()
    assert received == [LONG.encode()]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "0.5 +/- 0.1 - \\xfc \\u4f60"), ("latin-1", "0.5 ± 0.1 - ü \\u4f60"), ("utf-8", "0.5 ± 0.1 – ü 你")],
)
def test_characters_that_the_console_lacks_are_replaced(encoding: str, expected: str, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding=encoding) as file, open_dropping_stream(file.fileno(), file) as stream:
        print("0.5 ± 0.1 – ü 你", end="", file=stream)
    assert (tmp_path / "out").read_text(encoding=encoding) == expected


SCRIPT = """
import os, sys
from backlit.streams import dropping_streams, open_product_stream
with dropping_streams():
    print("lost"); print("lost", file=sys.stderr); sys.stdin.read()
    first = os.open("file", os.O_WRONLY | os.O_CREAT)
    os.write(1, b"of other code")
    try:
        with open_product_stream(): pass
    except OSError as error:
        os.write(first, f"{first > 2} {error.strerror}".encode())
"""


@pytest.mark.process
def test_closed_streams_are_opened_and_their_numbers_are_no_files(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, SCRIPT]
    assert subprocess.run(command, cwd=tmp_path, timeout=60, check=False).returncode == 0
    assert (tmp_path / "file").read_text() == "True standard output is closed"


@contextlib.contextmanager
def standard_streams(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let stdout and stderr be streams on a descriptor, as a shell has it."""

    with open(descriptor, "w", encoding="utf-8", closefd=False) as stream, monkeypatch.context() as patch:
        for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
            patch.setattr(sys, name, stream)
        yield


def call(*command: str) -> object:
    """Run a command in this process, with its streams as they are, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch, hydra_as_found():
        patch.setattr(sys, "argv", list(command))
        try:
            importlib.import_module(command[0].replace("-", ".")).main()
        except SystemExit as error:
            return error.code
    return 0


@pytest.mark.parametrize("kind", ["full", "pipe"])
def test_a_command_does_its_work_for_nobody(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with broken(kind) as descriptor, standard_streams(descriptor, monkeypatch):
        before = sys.stdout
        rejected = call("backlit-train", *QUICK, "optimizer.lr=-1", "hydra.run.dir=bad")
        trained = call("backlit-train", *QUICK, "hydra.run.dir=run")
        exported = call("backlit-export", "run=run", "output=net.pth")
        reported = call("backlit-report", "run", "--output", "report")
        assert sys.stdout is before
    assert (rejected, trained, exported, reported) == (2, 0, 0, 0)
    assert not Path("bad").exists()
    assert read_record(Path("run"))["status"] == "completed"
    assert Path("net.pth").exists()
    assert Path("report/report.png").exists()


@pytest.mark.parametrize(("kind", "lines"), [("full", 1), ("pipe", 0)])
def test_predictions_that_stdout_does_not_take_are_an_error(
    kind: str, lines: int, points_run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("points.csv").write_text("x,y\n0.1,0.2\n")
    with (
        broken(kind) as descriptor,
        standard_streams(descriptor, monkeypatch),
        open(2, "w", encoding="utf-8", closefd=False) as stderr,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stderr", stderr)
        patch.setattr(sys, "__stderr__", stderr)
        assert call("backlit-predict", f"run={points_run}", "input=points.csv", "output=-") == 1
    reported = capfd.readouterr().err
    assert reported.count("\n") == lines
    assert reported.startswith("error: output=- cannot be written to standard output: No space left" if lines else "")


def test_a_product_has_the_bytes_of_file_names_whatever_the_locale(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "__stdout__", file)
        with dropping_streams():
            print("before")
            with open_product_stream() as stream:
                stream.write("ü\udcff")
    assert (tmp_path / "out").read_bytes() == b"before\n\xc3\xbc\xff"


@pytest.mark.process
def test_ctrl_c_while_a_sweep_is_summarized_says_how_to_summarize_it(
    call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("backlit.sweeps.summary.summarize_sweep", interrupt)
    ended = call_command("backlit-train", "-m", *QUICK, "seed=1", "hydra.sweep.dir=sweep")
    assert ended.returncode == 130
    assert ended.stderr == "interrupted; to summarize the sweep: backlit-report sweep\n"
    assert signal.getsignal(signal.SIGINT) is not None
