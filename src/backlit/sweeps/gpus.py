"""How a job gets its GPUs, and how many jobs run at a time."""

import os
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from backlit.config.machine import cpu_threads
from backlit.sweeps.job import Job


def available_gpus() -> list[str]:
    """Return the names of the GPUs visible to this process, as in ``CUDA_VISIBLE_DEVICES``."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(map(str, range(count))) if visible is None else visible.split(",")[:count]


def requested_gpus(config: DictConfig, gpus: list[str], n_jobs: int, gpus_per_job: int | None) -> int:
    """Return how many GPUs a job uses.

    Args:
        config: The job's config.
        gpus: The available GPUs.
        n_jobs: How many jobs run at a time.
        gpus_per_job: Number of GPUs per job; None for as many as it requests.
    """
    if not gpus or OmegaConf.select(config, "trainer.accelerator") not in ("auto", "gpu", "cuda"):
        return 0
    devices = OmegaConf.select(config, "trainer.devices")
    if OmegaConf.is_list(devices):
        devices = len(devices)
    if isinstance(devices, int) and devices > 0:
        return max(devices, gpus_per_job or 0)
    # "auto" and -1 mean all GPUs of the machine, but one GPU if several jobs share the machine.
    return gpus_per_job or (len(gpus) if n_jobs == 1 else 1)


def gpu_limit_problems(job: Job, gpus: list[str], gpus_per_job: int | None) -> list[str]:
    """Return one line if a job requests more GPUs than it can get, otherwise an empty list."""
    limit = len(gpus) if gpus_per_job is None else min(gpus_per_job, len(gpus))
    if job.gpus <= limit:
        return []
    return [f"trainer.devices must be <= {limit} (the GPUs that a job can have), got {job.gpus}"]


def job_slots(jobs: Sequence[Job], n_jobs: int, gpus: list[str], *, most: int) -> int:
    """Return how many jobs run at a time: `n_jobs`, or, if that is -1, as many as GPUs or CPU cores allow.

    Args:
        jobs: The jobs, or some like them.
        n_jobs: How many are wanted; -1 for as many as fit.
        gpus: The available GPUs.
        most: How many jobs there are in all.
    """
    if n_jobs == -1 and jobs:
        gpus_per_job = max(job.gpus for job in jobs)
        n_jobs = len(gpus) // gpus_per_job if gpus_per_job else cpu_threads() // max(job.processes for job in jobs)
    return max(1, min(n_jobs, most))
