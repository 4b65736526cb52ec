from pathlib import Path
from typing import Any

import pytest

from tests.helpers.sweeps import make_job


def test_a_job_starts_as_a_single_run_with_its_own_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    hydra = ["hydra.launcher.n_jobs=2", "hydra/sweeper=optuna", "hydra.verbose=true"]
    task = ["experiment=points", "optimizer.lr=1,2"]
    monkeypatch.setattr("sys.argv", ["backlit-train", "-m", *task, *hydra, "--config-dir=more"])
    job = make_job(overrides=("experiment=points", "optimizer.lr=2"))
    expected = ["--config-dir=more", "experiment=points", "optimizer.lr=2", "hydra.verbose=true"]
    assert job.arguments(hydra, task) == expected
    job.checkpoint = Path("it's/last.ckpt")
    assert job.arguments(hydra, task) == [*expected, r"ckpt_path='it\'s/last.ckpt'"]


@pytest.mark.parametrize(
    ("trainer", "processes"),
    [
        ({"accelerator": "cpu", "devices": 3}, 3),
        ({"accelerator": "cpu", "devices": "auto"}, 1),
        ({"accelerator": "gpu", "devices": 3}, 1),
    ],
)
def test_the_processes_that_share_the_cpu_are_counted(trainer: dict[str, Any], processes: int) -> None:
    assert make_job(**trainer).processes == processes
