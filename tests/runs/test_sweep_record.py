"""``sweep.json``: read back, or rejected."""

import json
from pathlib import Path

import pytest

from backlit.runs.sweep_record import read_sweep


@pytest.mark.parametrize(
    "job",
    [
        {"number": 0, "overrides": [], "directory": "../x"},
        {"number": 0, "overrides": [], "directory": ".."},
        {"number": "0", "overrides": [], "directory": "0"},
        {"number": 0, "overrides": {}, "directory": "0"},
        {},
    ],
)
def test_a_sweep_has_jobs_in_its_own_directory(job: dict[str, object], tmp_path: Path) -> None:
    assert read_sweep(tmp_path) == {"jobs": []}
    good = {"number": 0, "overrides": [], "directory": "0"}
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [good]}))
    assert read_sweep(tmp_path) == {"jobs": [good]}
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [good, job]}))
    with pytest.raises(ValueError, match="must be what a sweep writes"):
        read_sweep(tmp_path)
