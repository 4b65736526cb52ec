"""What Slurm is asked for and how its answers are read, by programs that stand for Slurm's."""

import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from backlit.errors import ConfigError
from backlit.sweeps.choose_engine import choose_engine
from backlit.sweeps.engine import Engine
from backlit.sweeps.slurm import SlurmError, SlurmOptions, read_queue, submit
from backlit.sweeps.sweep import Sweep
from tests.helpers.sweeps import make_job, write_sweep

Slurm = Callable[..., None]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Programs that stand for Slurm's: each notes its arguments and stdin in a file, and answers by a shell command."""
    places = tmp_path / "bin"
    places.mkdir()
    monkeypatch.setenv("PATH", f"{places}:/usr/bin:/bin")

    def install(**answers: str) -> None:
        for name, answer in answers.items():
            noted = f'for word in "$@"; do echo "$word"; done > {name}.arguments; cat > {name}.stdin'
            (places / name).write_text(f"#!/bin/sh\n{noted}\n{answer}\n")
            (places / name).chmod(0o755)

    install(sbatch="echo '17;cluster'", squeue=":", scancel=":")
    return install


def make_engine(**settings: Any) -> Engine:
    unused: Any = None
    write_sweep(Path("sweep"), {"lr=0": []})
    sweep = Sweep(OmegaConf.create({"hydra": {"sweep": {"dir": "sweep"}}}), unused, unused)
    return choose_engine("slurm", sweep, **settings)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"time": 1}, "time must be in minutes, or as Slurm takes it (1-12:00:00), and >= 2 minutes or null, got 1"),
        ({"time": "0:90:00:00"}, "time must be in minutes"),
        ({"time": "1:30"}, "time must be in minutes"),
        ({"time": "tomorrow"}, "time must be in minutes"),
        ({"partition": ""}, "partition must "),
        ({"options": ["-x"]}, "options must be options of sbatch, --name or --name=value, got '-x'"),
        ({"options": ["--array=1-3"]}, "options must be without --array, which backlit sets"),
        ({"options": ["--wait"]}, "options must be without --wait, which backlit sets"),
        ({"n_jobs": 0}, "n_jobs must be >= 1, or -1 for as many as fit, got 0"),
        ({"n_jobs": 2, "wait": False}, "n_jobs must be -1 with wait=false: nobody would start the rest, got 2"),
        ({"cpus_per_job": 0}, "cpus_per_job must be >= 1 or null, got 0"),
    ],
)
def test_settings_out_of_their_range_are_rejected(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_engine(**settings)
    assert str(caught.value).startswith(f"hydra.launcher.{line}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"partition": "gpu"}, {"options": ["--x"]}, {"wait": False}, {"cpus_per_job": 2}])
def test_settings_of_slurm_are_rejected_on_this_machine(settings: dict[str, Any]) -> None:
    unused: Any = None
    with pytest.raises(ConfigError, match=f"hydra.launcher.{next(iter(settings))} is for engine=slurm"):
        choose_engine("processes", unused, **settings)
    with pytest.raises(ConfigError, match=r"engine must be one of processes, .*slurm.*, got nope"):
        choose_engine("nope", unused)


@pytest.mark.parametrize("limit", [2, 90, "90", "2:00", "1:30:00", "1-0", "1-12:30", "1-12:30:15"])
def test_time_limits_as_slurm_takes_them(limit: int | str) -> None:
    assert SlurmOptions(time=limit).problems() == []
    assert SlurmOptions(time=limit).arguments(0) == [f"--time={limit}"]


@pytest.mark.parametrize(
    ("trainer", "settings", "cpus", "gres", "threads"),
    [
        ({"accelerator": "cpu", "devices": 1}, {}, 1, [], 1),
        ({"accelerator": "cpu", "devices": 2}, {}, 2, [], 1),
        ({"accelerator": "cpu", "devices": 2}, {"cpus_per_job": 8}, 8, [], 4),
        ({"accelerator": "gpu", "devices": 2}, {"cpus_per_job": 8}, 8, ["--gres=gpu:2"], 4),
        ({"accelerator": "gpu", "devices": [0, 1, 2]}, {}, 3, ["--gres=gpu:3"], 1),
        ({"accelerator": "gpu", "devices": "auto"}, {}, 1, ["--gres=gpu:1"], 1),
        ({"accelerator": "gpu", "devices": -1}, {"gpus_per_job": 4}, 4, ["--gres=gpu:4"], 1),
        ({"accelerator": "auto", "devices": "auto"}, {}, 1, [], 1),
        ({"accelerator": "auto", "devices": "auto"}, {"gres": "gpu:a100:1"}, 1, ["--gres=gpu:a100:1"], 1),
    ],
)
def test_a_job_gets_cores_gpus_and_threads(
    trainer: dict[str, Any], settings: dict[str, Any], cpus: int, gres: list[str], threads: int, slurm: Slurm
) -> None:
    engine = make_engine(partition="p", options=["--mem=8G"], **settings)
    job = make_job(Path("sweep/it's 5%"), **trainer)
    assert engine.prepare([job], n_jobs=2) == [[]]
    assert "--test-only" in Path("sbatch.arguments").read_text()
    running = engine.start(job, ["optimizer.lr=1"])
    asked = Path("sbatch.arguments").read_text().splitlines()
    log_file = f"{job.directory.resolve()}/train.log".replace("%", "%%")
    assert {f"--cpus-per-task={cpus}", "--ntasks=1", "--requeue", f"--output={log_file}", "--partition=p"} <= set(asked)
    assert [option for option in asked if option.startswith("--gres")] == gres
    assert asked[-1] == "--mem=8G"
    script = Path("sbatch.stdin").read_text().splitlines()
    assert script[0] == "#!/bin/sh"
    assert f" {Path.cwd()} {threads} " in script[1]
    assert script[1].startswith(f"exec {sys.executable} -P -m backlit.sweeps.slurm_job ")
    engine.close()
    assert '"slurm_id": 17' in Path("sweep/sweep.json").read_text()
    assert running.handles() == []


def test_what_slurm_rejects_is_a_problem_of_the_job(slurm: Slurm) -> None:
    answer = 'echo "sbatch: error: too many" >&2; echo "allocation failure: no" >&2; exit 1'
    slurm(sbatch=f'case "$*" in *task=9*) {answer};; esac')
    jobs = [make_job(accelerator="cpu", devices=devices) for devices in (1, 9, 9)]
    rejected = "Slurm rejects the job: sbatch: too many; allocation failure: no"
    assert make_engine().prepare(jobs, n_jobs=2) == [[], [rejected], [rejected]]
    slurm(sbatch="echo sbatch: error: full >&2; exit 1")
    with pytest.raises(OSError, match=r"^sbatch: full$"):
        make_engine().start(jobs[0], [])


def test_without_slurm_or_its_cluster_nothing_starts(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(squeue="echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    needs = "hydra.launcher.engine=slurm needs a cluster: squeue: Unable to contact slurm controller"
    with pytest.raises(ConfigError, match=f"^{needs}$"):
        make_engine().prepare([make_job()], n_jobs=2)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="engine=slurm needs squeue, which is not installed here; on this machine: "):
        make_engine().prepare([make_job()], n_jobs=2)


def test_the_queue_is_read_as_it_is(slurm: Slurm) -> None:
    slurm(squeue="echo '17|RUNNING|None|/a|b/train.log|'; echo '18_[1-3]|PENDING|Resources|/x|'")
    (found,) = read_queue().values()
    assert (found.slurm_id, found.state, found.reason, found.log_file) == (17, "RUNNING", "None", "/a|b/train.log")
    slurm(squeue="exit 3")
    with pytest.raises(SlurmError, match="squeue: exit code 3"):
        read_queue()
    assert submit(["--x"], ["true", "a b"]) == 17
    assert Path("sbatch.stdin").read_text() == "#!/bin/sh\nexec true 'a b'\n"


def test_a_job_is_followed_in_the_queue_and_a_query_that_fails_is_not_its_end(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    job, other = make_job(Path("sweep/0")), make_job(Path("sweep/1"))
    listed = f"{job.log_file.resolve()}|"
    slurm(squeue=f"echo '40|PENDING|PartitionConfig|{listed}'; echo '39|COMPLETING|None|{other.log_file.resolve()}|'")
    engine = make_engine()
    engine.prepare([job], n_jobs=2)
    assert (engine.has_job(job), engine.has_job(other)) == (True, False)
    running = engine.start(job, [])
    assert not Path("sbatch.stdin").read_text().count("start_job")  # it was not submitted again
    for answer, has_ended in ((None, False), ("exit 1", False), ("exit 1", False), (":", True)):
        if answer is not None:
            slurm(squeue=answer)
        clock[0] += 3
        assert running.has_ended() == has_ended
    assert "waits as Slurm's job 40: PartitionConfig" in caplog.text
    assert caplog.text.count("squeue: exit code 1; the jobs are not affected") == 1
    running.send_signal(signal.SIGTERM)
    assert Path("scancel.arguments").read_text() == "40\n"
    slurm(scancel="exit 1")
    running.send_signal(signal.SIGKILL)
    assert "scancel: exit code 1" in caplog.text
    with caplog.at_level(logging.WARNING):
        assert engine.leave([running])
    assert "scancel 40" in caplog.text
    completed, problem = running.end()
    assert not completed
    assert problem.startswith("its process has ended without a record")
