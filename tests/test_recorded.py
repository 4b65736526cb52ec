from pathlib import Path

import pytest

from backlit.recorded import Plan, plan
from backlit.run import ConfigError, write_json


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-m resume=sweep", "-m experiment=points lr=1,2 ~a"),
        ("-m lr=2,3 resume=sweep", "-m experiment=points lr=2,3 ~a"),
        ("-m +new=1 resume=sweep ++lr=5", "-m experiment=points ++lr=5 ~a +new=1"),
        ("-m resume=latest experiment=points", "-m experiment=points lr=1,2 ~a"),
        ("-m resume=sweep ~b", "-m experiment=points lr=1,2 ~a"),
        ("-m resume=sweep --config-dir my", "-m --config-dir my experiment=points lr=1,2 ~a"),
    ],
)
def test_a_sweep_goes_on_with_what_has_changed(given: str, expected: str, tmp_path: Path) -> None:
    for place in (tmp_path / "sweep", tmp_path / "outputs" / "points" / "sweeps" / "now"):
        place.mkdir(parents=True)
        arguments = ["-m", "experiment=points", "lr=1,2", "~a"]
        arguments += ["--config-dir", "my"] if "--config-dir" in given else []
        arguments += ["+b=1"] if "~b" in given else []
        job = {"number": 0, "overrides": [], "directory": "0"}
        write_json(place / "sweep.json", {"arguments": arguments, "jobs": [job]})
    assert plan(given.split(" ")).arguments == expected.split(" ")


def test_without_resume_nothing_changes() -> None:
    assert plan(["-m", "lr=1,2"]) == Plan(["-m", "lr=1,2"])


def test_resume_needs_jobs_that_are_known(tmp_path: Path) -> None:
    write_json(tmp_path / "sweep.json", {"arguments": [], "jobs": []})
    with pytest.raises(ConfigError, match="resume must be a sweep whose jobs are known"):
        plan(["-m", f"resume={tmp_path}"])
