"""What a job needs of a machine elsewhere, whose accelerators this one does not know."""

from omegaconf import OmegaConf

from backlit.sweeps.job import Job


def gpus_elsewhere(job: Job, gpus_per_job: int | None) -> int:
    """Return the number of a job's GPUs: as many as ``trainer.devices`` requests with ``trainer=gpu``, else none.

    Args:
        job: The job.
        gpus_per_job: That number where ``trainer.devices`` says none.
    """
    if OmegaConf.select(job.config, "trainer.accelerator") not in ("gpu", "cuda"):
        return gpus_per_job or 0
    devices = OmegaConf.select(job.config, "trainer.devices")
    if OmegaConf.is_list(devices):
        devices = len(devices)
    return devices if isinstance(devices, int) and devices > 0 else gpus_per_job or 1


def cpus_elsewhere(job: Job, cpus_per_job: int | None) -> int:
    """Return the number of a job's CPU cores; None for one for each of its processes."""
    return cpus_per_job or max(job.processes, job.gpus)
