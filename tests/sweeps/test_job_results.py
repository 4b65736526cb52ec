import json
from pathlib import Path

import pytest
from filelock import FileLock

from backlit.errors import JobError
from backlit.sweeps.job_results import completed_result, failed_result, record_end, record_failed_start, task_config
from tests.helpers.sweeps import make_job, make_sweep, write_run


def test_a_failed_job_raises_its_problem_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(overrides=("lr=1",))
    assert completed_result(make_sweep(), job, 0.5).return_value == 0.5
    with pytest.raises(JobError, match=r"^job 0 lr=1: out of memory$"):
        _ = failed_result(make_sweep(), job, "out of memory").return_value
    assert capsys.readouterr().err == ""


def test_the_task_gets_the_config_without_hydras_part() -> None:
    job = make_job(devices=2)
    assert task_config(job.config) == {"trainer": {"devices": 2}}
    assert "hydra" in job.config


def test_the_end_of_a_job_is_recorded_only_if_the_job_has_not_done_so(tmp_path: Path) -> None:
    running = make_job(write_run(tmp_path / "running", [], [0.1], status="running"))
    failed = make_job(write_run(tmp_path / "failed", [], [0.1], status="failed", error="ValueError: no"))
    for job in (running, failed):
        record_end(job, "interrupted", "SIGTERM")
    ends = [json.loads((job.directory / "run.json").read_text()) for job in (running, failed)]
    assert [(end["status"], end["error"]) for end in ends] == [
        ("interrupted", "SIGTERM"),
        ("failed", "ValueError: no"),
    ]


def test_a_job_that_could_not_start_is_failed_unless_another_process_runs_it(tmp_path: Path) -> None:
    new, begun = make_job(tmp_path / "new"), make_job(write_run(tmp_path / "begun", [], [0.1], status="interrupted"))
    foreign = make_job(write_run(tmp_path / "foreign", [], [0.1], status="running"))
    new.directory.mkdir()
    with FileLock(foreign.directory / ".lock"):
        for job in (new, begun, foreign):
            record_failed_start(job, "no space")
    ends = [json.loads((job.directory / "run.json").read_text()) for job in (new, begun, foreign)]
    assert [(end["status"], end.get("error")) for end in ends] == [
        ("failed", "no space"),
        ("failed", "no space"),
        ("running", None),
    ]
