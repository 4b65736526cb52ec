"""What a job's command types on the machine where it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backlit.sweeps.job import JOB_DIRECTORY
from backlit.sweeps.job_command import command_end, job_command
from backlit.sweeps.start_job import job_arguments, job_environment
from tests.helpers.runs import change_record
from tests.helpers.sweeps import make_job, write_run

TYPED = ["experiment=points", "optimizer.lr=1", "ckpt_path=other.ckpt"]


@pytest.mark.parametrize(
    ("status", "checkpoint", "typed"),
    [
        (None, None, [*TYPED, "hydra.run.dir={}"]),
        ("running", None, [*TYPED, "hydra.run.dir={}"]),  # it was killed before it has saved anything
        ("failed", "best", [*TYPED, "hydra.run.dir={}"]),
        ("running", "last", [*TYPED[:2], "resume={}"]),
        ("interrupted", "previous", [*TYPED[:2], "resume={}"]),
        ("completed", "last", None),
    ],
)
def test_a_job_begins_or_resumes_as_its_directory_says(
    status: str | None, checkpoint: str | None, typed: list[str] | None, tmp_path: Path
) -> None:
    job = tmp_path / "0_lr"
    if status is not None:
        write_run(job, ["optimizer.lr=1"], [0.5], status=status)
    if checkpoint is not None:
        (job / "checkpoints").mkdir()
        (job / "checkpoints" / f"{checkpoint}.ckpt").touch()
    assert job_arguments(job, TYPED) == (None if typed is None else [argument.format(job) for argument in typed])
    is_new = typed is not None and "hydra.run.dir" in typed[-1]
    assert (job / "metrics.csv").exists() == (status is not None and not is_new)


def test_a_job_is_no_rank_of_the_program_in_which_its_engine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "8")
    environment = job_environment(Path("/sweep/0"), 3)
    assert not {"WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID"} & environment.keys()
    assert environment["SLURM_JOB_ID"] == "8"
    assert (environment["OMP_NUM_THREADS"], environment[JOB_DIRECTORY]) == ("3", "/sweep/0")


@pytest.mark.process
def test_the_command_of_a_job_works_where_the_sweep_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('not this one')")
    program = tmp_path / "it's a program.py"
    program.write_text("import os, sys; print(os.getcwd(), os.environ['OMP_NUM_THREADS'], sys.argv[1:])")
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    job = make_job(tmp_path / "0")
    command = job_command(job, ["--config-dir", "my", "optimizer.lr=1"], 2)
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    typed = ["--config-dir", "my", "optimizer.lr=1", f"hydra.run.dir={job.directory}"]
    assert done.stdout == f"{tmp_path} 2 {typed}\n"


@pytest.mark.parametrize(
    ("record", "log", "problem"),
    [
        ({"status": "completed"}, "", None),
        ({"status": "failed", "error": "FloatingPointError: nan"}, "failed: nan\n", "FloatingPointError: nan"),
        ({"status": "interrupted", "error": "SIGTERM"}, "error: of an earlier attempt\nslurmstepd: ...", "SIGTERM"),
        ({"status": "interrupted", "error": "SIGTERM"}, "x\nerror: resume must be ...\n", "resume must be ..."),
        ({"status": "running"}, "x\n", "its process has ended without a record"),
        (None, "x\nerror: no such key\n", "no such key"),
        (None, "", "its process has ended without a record"),
        (None, None, "its process has ended without a record"),
    ],
)
def test_how_a_job_ended_is_in_its_directory(
    record: dict[str, str] | None, log: str | None, problem: str | None, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "0")
    write_run(job.directory, [], [0.5])
    if record is None:
        (job.directory / "run.json").unlink()
    else:
        change_record(job.directory, **record)
    if log is not None:
        job.log_file.write_text(log)
    completed, value = command_end(job)
    assert completed == (problem is None)
    assert (value or "").startswith(problem or "")
    assert record is None or json.loads((job.directory / "run.json").read_text())["status"] == record["status"]
