"""Nothing from a file reaches a terminal raw, and no value makes a line of its own."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from backlit.errors import ConfigError
from backlit.logs import ConsoleHandler, LogFile
from backlit.text import printable
from tests.conftest import CallCommand
from tests.helpers.runs import change_record, read_record
from tests.helpers.sweeps import write_run, write_sweep

# A window's title, a cleared screen in eight and seven bits, a line that was never written, a text turned around.
EVIL = "\x1b]0;title\x07\x9b2J\x1b[2J\r\nerror: fake\u2028fake\x85fake\u202eevil\x00"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]")


def assert_harmless(*texts: str) -> None:
    for text in texts:
        assert RAW.search(text) is None, repr(text)
        assert [line for line in text.splitlines() if line.startswith(("error: fake", "fake"))] == []


def test_what_a_terminal_obeys_is_shown_as_its_escape() -> None:
    assert printable("a\x1b[2J\n\x9b\u202eb\udcff") == r"a\x1b[2J\n\x9b\u202eb\udcff"
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    plain = "äöü 数字 – “x” ½ 🙂 a\\b"
    assert printable(plain) is plain or printable(plain) == plain
    assert_harmless(printable(EVIL))


def test_what_a_message_is_filled_with_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    handler = ConsoleHandler()

    def show(message: str, *args: Any, name: str = "x") -> str:
        handler.emit(logging.LogRecord(name, logging.INFO, "", 0, message, args, None))
        return capsys.readouterr().out

    assert show("a\n%s %d %.1f", "b\nc", 3, 0.25) == "a\nb\\nc 3 0.2\n"
    assert show("%s", ConfigError(["x\x1b", "y"])) == "x\\x1b\\ny\n"
    assert show("%s", "file:1: Warning: a\n  code\x1b\n", name="py.warnings") == "file:1: Warning: a\n  code\\x1b\n\n"
    assert show("100 %") == "100 %\n"


@pytest.fixture
def evil_run(points_run: Path) -> Path:
    """A run whose record, config and metrics have what a terminal would obey."""
    config = yaml.safe_load((points_run / ".hydra" / "config.yaml").read_text())
    config |= {"task_name": EVIL, "tags": [EVIL], EVIL.replace("\x00", ""): EVIL}
    (points_run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=False))
    overrides = [*read_record(points_run)["overrides"], f"x={EVIL}"]
    change_record(points_run, error=EVIL, status="failed", optimized_metric=EVIL, host=EVIL, overrides=overrides)
    metrics = json.loads((points_run / "metrics.json").read_text())
    metrics["metrics"][f"test/{EVIL}"] = 0.5
    (points_run / "metrics.json").write_text(json.dumps(metrics))
    return points_run


def test_reports_show_escapes(evil_run: Path, call_command: CallCommand) -> None:
    other = write_run(Path("outputs/other"), ["x=1"], [0.5], error=EVIL, status="failed")
    change_record(other, overrides=[f"a{EVIL}={EVIL}"])
    Path("outputs/bad\x1b[2J").mkdir()
    Path("outputs/bad\x1b[2J/run.json").write_text("{")
    done = call_command("backlit-report", "outputs")
    assert_harmless(done.stdout, done.stderr)
    sweep = write_sweep(Path("sweep"), {"x=1": [0.5], "x=2": [0.25]})
    record = json.loads((sweep / "sweep.json").read_text())
    record["jobs"][1]["overrides"] = [f"x={EVIL}", f"{EVIL}=1"]
    (sweep / "sweep.json").write_text(json.dumps(record))
    change_record(sweep / "1", error=EVIL, status="failed")
    done = call_command("backlit-report", "sweep")
    assert_harmless(done.stdout, done.stderr)
    assert_harmless(*(path.read_text() for path in (Path("sweep/sweep.md"),)))


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": [f"--config-dir={EVIL}"]},
        {"arguments": [f"+callbacks.x={{path: '{EVIL}'}}"]},
        {"arguments": [f"x={EVIL}"]},
        {"status": "running", "host": EVIL, "pid": EVIL},
        {"arguments": ["experiment=points", f"+callbacks.x={{_target_: '{EVIL}'}}"]},
        {"arguments": ["experiment=points", "optimizer.nope\x1b[2J=1"]},
        {"arguments": ["experiment=nope\x9b2J"]},
    ],
)
def test_errors_show_escapes(changes: dict[str, Any], evil_run: Path, call_command: CallCommand) -> None:
    change_record(evil_run, **changes)
    for key in ("resume", "rerun") if "arguments" in changes else ("resume",):
        with FileLock(evil_run / ".lock"):  # as another process has it
            done = call_command("backlit-train", f"{key}={evil_run}")
        assert done.returncode == 2, done.stderr
        assert_harmless(done.stdout, done.stderr)
        assert all(line.startswith("error: ") for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ("model", {"_target_": EVIL}),
        ("model", {"_target_": "backlit.models.BinaryClassifier", EVIL: 1}),
        ("data", {"_target_": "torch." + EVIL}),
        ("data", {"_target_": "backlit.data.PointsDataModule", "weights": EVIL}),
    ],
)
def test_loading_shows_escapes(node: str, value: dict[str, Any], evil_run: Path, call_command: CallCommand) -> None:
    path = evil_run / ".hydra" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {node: value}, allow_unicode=False))
    for command in (
        ["backlit-evaluate"],
        ["backlit-predict", "input=x.csv"],
        ["backlit-export", "format=torch_export"],
    ):
        Path("x.csv").write_text("1,2\n")
        done = call_command(*command, f"run={evil_run}")
        assert done.returncode == 2, done.stderr
        assert_harmless(done.stdout, done.stderr)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_a_full_disk_takes_no_log_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogFile("/dev/full")
    try:
        handler.handle(logging.makeLogRecord({"msg": "epoch 1"}))
        assert capsys.readouterr().err == ""
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
        assert "Traceback" in capsys.readouterr().err  # a wrong call is ours to see
    finally:
        with pytest.raises(OSError, match="No space left"):
            handler.close()
