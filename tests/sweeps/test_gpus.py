from typing import Any

import pytest

from backlit.config.machine import cpu_threads
from backlit.sweeps.gpus import available_gpus, gpu_limit_problems, job_slots, requested_gpus
from tests.helpers.sweeps import make_job


@pytest.mark.parametrize(
    ("trainer", "n_jobs", "gpus_per_job", "expected"),
    [
        ({"accelerator": "cpu", "devices": 2}, 1, None, 0),
        ({"accelerator": "gpu", "devices": 2}, 1, None, 2),
        ({"accelerator": "gpu", "devices": 1}, 2, 2, 2),
        ({"accelerator": "gpu", "devices": 3}, 2, 2, 3),
        ({"accelerator": "auto", "devices": "auto"}, 1, None, 4),
        ({"accelerator": "auto", "devices": "auto"}, 2, None, 1),
        ({"accelerator": "cuda", "devices": -1}, 2, 2, 2),
        ({"accelerator": "gpu", "devices": [0, 1]}, 1, None, 2),
    ],
)
def test_a_job_takes_the_gpus_that_it_asks_for(
    trainer: dict[str, Any], n_jobs: int, gpus_per_job: int | None, expected: int
) -> None:
    config = make_job(**trainer).config
    assert requested_gpus(config, ["4", "5", "6", "7"], n_jobs, gpus_per_job) == expected
    assert requested_gpus(config, [], n_jobs, gpus_per_job) == 0


@pytest.mark.parametrize(
    ("gpus_per_job", "gpus", "problems"),
    [
        (None, 2, []),
        (None, 3, ["trainer.devices must be <= 2 (the GPUs that a job can have), got 3"]),
        (1, 2, ["trainer.devices must be <= 1 (the GPUs that a job can have), got 2"]),
    ],
)
def test_a_job_cannot_have_more_gpus_than_the_limit(gpus_per_job: int | None, gpus: int, problems: list[str]) -> None:
    job = make_job()
    job.gpus = gpus
    assert gpu_limit_problems(job, ["0", "1"], gpus_per_job) == problems


@pytest.mark.parametrize(("visible", "expected"), [(None, ["0", "1", "2"]), ("5,7,9", ["5", "7", "9"]), ("", [])])
def test_gpus_have_the_names_of_cuda_visible_devices(
    visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0 if visible == "" else 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert available_gpus() == expected


def test_as_many_jobs_run_side_by_side_as_cores_or_gpus_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert cpu_threads() == 8
    jobs = [make_job(accelerator="cpu", devices=2) for _ in range(9)]
    assert job_slots(jobs, -1, [], most=9) == 4
    assert job_slots(jobs, 3, [], most=9) == 3
    assert job_slots(jobs[:2], -1, [], most=2) == 2
    for job in jobs:
        job.gpus = 2
    assert job_slots(jobs, -1, ["0", "1", "2", "3", "4"], most=9) == 2
