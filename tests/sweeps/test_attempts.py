import logging
import os
import platform
from pathlib import Path

import pytest
from filelock import FileLock

from backlit.errors import ConfigError
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.attempts import prepare_attempt, record_jobs, split_completed, uncompleted_jobs
from backlit.sweeps.job import Job
from tests.helpers.runs import change_record
from tests.helpers.sweeps import make_job, make_sweep, write_run, write_sweep


def numbered(number: int, directory: Path) -> Job:
    job = make_job(directory, (f"lr={number}",))
    job.number = number
    return job


def test_jobs_that_are_recorded_but_not_completed_are_added(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=1": [0.1], "lr=2": [], "lr=3": [0.3], "lr=4": []})
    write_run(sweep / "1", ["lr=2"], [0.2], status="failed")
    (sweep / "2" / "run.json").write_text("{")
    assert uncompleted_jobs(sweep, [["lr=4", "sweep=lr"], ["lr=9"]]) == [["lr=2"], ["lr=3"]]


def test_a_job_is_the_same_with_other_packages_and_trusts_those_that_are_typed(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=1 packages=[evil]": [], "lr=2": [], "lr=3": []})
    jobs = [["lr=1", "packages=[mine]"], ["lr=2", "packages=[mine]"]]
    assert uncompleted_jobs(sweep, jobs) == [["lr=3", "packages=[mine]"]]
    assert uncompleted_jobs(sweep, [["lr=2"]]) == [["lr=1"], ["lr=3"]]


def test_recorded_jobs_are_kept_and_new_ones_added_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"lr=0": [0.1], "lr=1": [0.2]})
    monkeypatch.setattr("sys.argv", ["backlit-train", "-m", "lr=5"])
    record_jobs([numbered(5, sweep / "5_lr_5")], sweep)
    content = read_sweep(sweep)
    assert content["arguments"] == ["-m", "lr=5"]
    assert [(job["number"], job["directory"], job["overrides"]) for job in content["jobs"]] == [
        (0, "0", ["lr=0"]),
        (1, "1", ["lr=1"]),
        (5, "5_lr_5", ["lr=5"]),
    ]


def test_completed_jobs_return_their_metric_and_the_others_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = write_sweep(tmp_path, {"lr=0": [0.5, 0.2, 0.3], "lr=1": [0.4], "lr=2": []})
    write_run(sweep / "2", ["lr=2"], [0.1], status="interrupted")
    (sweep / "1" / "run.json").write_text("{")
    jobs = [numbered(number, sweep / str(number)) for number in range(4)]
    with caplog.at_level(logging.INFO):
        results, waiting = split_completed(make_sweep(), jobs, lambda job: False)
    assert {number: result.return_value for number, result in results.items()} == {0: 0.2}
    assert [job.number for job in waiting] == [1, 2, 3]
    assert "1 of 4 jobs are completed already and are kept" in caplog.text
    assert f"{sweep / '1' / 'run.json'} must be readable JSON" in caplog.text


def test_a_job_that_is_running_stops_the_sweep(tmp_path: Path) -> None:
    write_run(tmp_path, ["lr=0"], [0.1], status="running", pid=os.getpid(), host=platform.node())
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError) as caught:
        split_completed(make_sweep(), [numbered(0, tmp_path)], lambda job: False)
    where = f"process {os.getpid()} on {platform.node()}"
    assert str(caught.value) == f"job 0 lr=0 is running ({where}): wait for it, or end it"


def test_an_attempt_without_a_checkpoint_starts_from_nothing(tmp_path: Path) -> None:
    job = numbered(0, write_run(tmp_path / "0", ["lr=0"], [0.1], status="failed"))
    (job.directory / "train.log").write_text("earlier\n")
    prepare_attempt(job)
    assert job.checkpoint is None
    assert sorted(path.name for path in job.directory.iterdir()) == [".hydra", "train.log"]


def test_a_damaged_checkpoint_is_reported_and_the_job_starts_from_the_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = numbered(0, write_run(tmp_path / "0", ["lr=0"], [0.1], status="failed"))
    (job.directory / "checkpoints").mkdir()
    (job.directory / "checkpoints" / "last.ckpt").write_bytes(b"no checkpoint")
    prepare_attempt(job)
    assert job.checkpoint is None
    assert "job 0 lr=0: " in caplog.text
    assert "it starts from the beginning" in caplog.text
    assert not (job.directory / "checkpoints").exists()


def test_an_attempt_resumes_from_the_last_checkpoint(points_run: Path) -> None:
    job = numbered(0, points_run)
    prepare_attempt(job)
    assert job.checkpoint == points_run / "checkpoints" / "last.ckpt"
    assert (points_run / "run.json").exists()


def test_a_job_that_somebody_runs_meanwhile_is_left_alone(points_run: Path) -> None:
    change_record(points_run, status="running", pid=os.getpid())
    before = (points_run / "run.json").read_text()
    busy = pytest.raises(OSError, match=f"process {os.getpid()} on .* runs it already")
    with FileLock(points_run / ".lock"), busy:  # as another process has it
        prepare_attempt(numbered(0, points_run))
    assert (points_run / "run.json").read_text() == before
    assert (points_run / "checkpoints" / "last.ckpt").exists()
