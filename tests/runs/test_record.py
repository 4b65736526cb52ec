"""``run.json``: how a run was started and how it has ended."""

import json
import sys
from pathlib import Path

import pytest

from backlit.runs.record import RunRecord, finish_record
from tests.helpers.runs import change_record, read_record


@pytest.mark.parametrize(
    ("status", "error"),
    [("completed", None), ("failed", "RuntimeError: no"), ("interrupted", "SIGTERM")],
)
def test_run_json_says_how_a_run_has_ended(
    status: str, error: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/backlit-train", "model.hidden_sizes=[4, 4]"])
    record = RunRecord(tmp_path, seed=7, overrides=["a=1"], device="cpu", precision="32-true", world_size=1)
    first = json.loads((tmp_path / "run.json").read_text())
    assert first["status"] == "running"
    assert first["command"] == "backlit-train 'model.hidden_sizes=[4, 4]'"
    record.end(status, error)
    last = json.loads((tmp_path / "run.json").read_text())
    keys = "status command arguments seed overrides versions git project cpu device precision world_size host pid"
    keys += " started ended duration_s error loggers attempts"
    assert list(last) == keys.split()
    assert last["status"] == status
    assert last["error"] == error
    assert last["started"] <= last["ended"]
    assert last["versions"]["lightning"].startswith("2.")


def begin(directory: Path) -> RunRecord:
    return RunRecord(directory, seed=7, overrides=[], world_size=1)


def test_a_resumed_run_keeps_how_it_went_before(tmp_path: Path) -> None:
    begin(tmp_path).end("failed", "RuntimeError: no")
    begin(tmp_path)  # killed: it is still `running`
    begin(tmp_path).end("completed")
    record = read_record(tmp_path)
    assert record["status"] == "completed"
    assert [attempt["status"] for attempt in record["attempts"]] == ["failed", "interrupted"]
    assert record["attempts"][0]["error"] == "RuntimeError: no"
    assert record["duration_s"] >= record["attempts"][0]["duration_s"]


def test_a_record_is_finished_for_a_run_that_could_not(tmp_path: Path) -> None:
    begin(tmp_path)
    assert finish_record(tmp_path, "failed", "killed", [])
    record = read_record(tmp_path)
    assert (record["status"], record["error"], record["seed"]) == ("failed", "killed", 7)
    assert record["ended"] is not None
    assert not finish_record(tmp_path, "failed", "another reason", [])
    assert read_record(tmp_path) == record


def test_a_run_that_died_before_its_record_gets_one(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "runn')
    assert finish_record(tmp_path, "failed", "killed", ["a=1"])
    assert read_record(tmp_path)["overrides"] == ["a=1"]


def test_a_completed_run_stays_completed_until_its_extension_is(tmp_path: Path) -> None:
    begin(tmp_path).end("completed")
    completed = read_record(tmp_path)
    for ending in ("failed", None):
        extension = RunRecord(tmp_path, seed=7, overrides=["trainer.max_epochs=9"], is_extension=True)
        extension.add(planned_epochs=9)
        if ending:
            extension.end(ending, "no")
        record = read_record(tmp_path)
        assert {name: record[name] for name in completed} == completed
        assert record["extension"]["status"] == (ending or "running")
    assert finish_record(tmp_path, "failed", "killed", [])
    assert read_record(tmp_path)["status"] == "completed"
    assert read_record(tmp_path)["extension"]["error"] == "killed"
    RunRecord(tmp_path, seed=7, overrides=["trainer.max_epochs=9"], is_extension=True).end("completed")
    record = read_record(tmp_path)
    assert "extension" not in record
    assert record["overrides"] == ["trainer.max_epochs=9"]
    assert [attempt["status"] for attempt in record["attempts"]] == ["completed", "failed", "failed"]


def test_the_duration_of_a_run_that_could_not_record_its_end_has_its_earlier_attempts(tmp_path: Path) -> None:
    begin(tmp_path).end("failed", "no")
    change_record(tmp_path, duration_s=600.0)
    begin(tmp_path)
    assert finish_record(tmp_path, "failed", "killed", [])
    assert read_record(tmp_path)["duration_s"] >= 600
    begin(tmp_path).end("completed")
    record = read_record(tmp_path)
    assert record["duration_s"] >= 600
    assert all(attempt["duration_s"] >= 0 for attempt in record["attempts"])
