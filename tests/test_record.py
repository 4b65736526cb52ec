import json
import sys
from pathlib import Path

import pytest

from backlit.record import RunRecord


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "completed"),
        (RuntimeError("no"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(1), "failed"),
    ],
)
def test_run_json_says_how_it_ended(
    error: BaseException | None, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/backlit-train", "model.hidden_sizes=[4, 4]"])
    record = RunRecord(tmp_path, seed=7, overrides=["a=1"], device="cpu", precision="32-true", world_size=1)
    first = json.loads((tmp_path / "run.json").read_text())
    assert first["status"] == "running"
    assert first["command"] == "backlit-train 'model.hidden_sizes=[4, 4]'"
    record.end(error)
    last = json.loads((tmp_path / "run.json").read_text())
    keys = "status command arguments seed overrides versions git project cpu device precision world_size host pid"
    keys += " started ended duration_s error attempts"
    assert list(last) == keys.split()
    assert last["status"] == status
    assert (last["error"] is None) == (error is None)
    assert last["started"] <= last["ended"]
    assert last["versions"]["lightning"].startswith("2.")
