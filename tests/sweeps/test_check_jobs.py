"""What is checked of a job before any starts."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from backlit.sweeps.check_jobs import config_to_check
from tests.helpers.sweeps import make_job


@pytest.mark.parametrize(
    ("trainer", "checked"),
    [
        ({"accelerator": "gpu", "devices": 2, "strategy": "ddp"}, {"devices": 2}),
        (
            {"accelerator": "cuda", "devices": [0, 1], "strategy": "fsdp", "precision": "16-mixed"},
            {"devices": 2, "precision": "32-true"},
        ),
        (
            {"accelerator": "gpu", "devices": 8, "strategy": "auto", "precision": "bf16-mixed"},
            {"devices": 1, "precision": "bf16-mixed"},
        ),
        ({"accelerator": "gpu", "devices": "auto", "strategy": "auto"}, {"devices": 1}),
        ({"accelerator": "cpu", "devices": 8, "strategy": "auto"}, {"devices": 1}),
        ({"accelerator": "cpu", "devices": 2, "strategy": "auto"}, {"devices": 2}),
        ({"accelerator": "cpu", "devices": "auto", "strategy": "auto"}, {"devices": "auto"}),
    ],
)
def test_a_job_for_another_machine_is_checked_as_one_that_fits_here(
    trainer: dict[str, Any], checked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlit.sweeps.check_jobs.cpu_cores", lambda: 4)
    job = make_job(**trainer)
    expected = {"accelerator": "cpu", "strategy": "auto", **checked}
    assert config_to_check(job.config, is_elsewhere=True) == {"trainer": expected}
    assert config_to_check(job.config, is_elsewhere=False) == {"trainer": OmegaConf.create(trainer)}
    assert job.config.trainer == trainer


def test_an_accelerator_that_no_cluster_has_is_checked_here() -> None:
    job = make_job(accelerator="mps", devices=1)
    assert config_to_check(job.config, is_elsewhere=True) == {"trainer": {"accelerator": "mps", "devices": 1}}
