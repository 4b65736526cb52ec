"""The engine ``processes``: each job is a process on this machine."""

from collections.abc import Sequence

from backlit.config.machine import cpu_threads
from backlit.errors import ConfigError
from backlit.sweeps.engine import RunningJob
from backlit.sweeps.fork import run_in_child
from backlit.sweeps.gpus import available_gpus, gpu_limit_problems, job_slots, requested_gpus
from backlit.sweeps.job import Job
from backlit.sweeps.job_process import JobProcess
from backlit.sweeps.sweep import Sweep


class ProcessEngine:
    """Runs each job as a process on this machine; the jobs share its CPU threads and GPUs.

    Args:
        sweep: What the jobs have in common.
        n_jobs: How many jobs run at a time; -1 is as many as GPUs, or CPU threads, allow.
        gpus_per_job: Number of GPUs per job; None for as many as its ``trainer.devices`` requests.
    """

    is_elsewhere = False
    waits = True

    def __init__(self, sweep: Sweep, n_jobs: int, gpus_per_job: int | None) -> None:
        self.sweep = sweep
        self.n_jobs = n_jobs
        self.gpus_per_job = gpus_per_job
        self._gpus: list[str] = []
        self._slots = 1
        self._processes: list[JobProcess] = []

    def prepare(self, jobs: Sequence[Job], n_jobs: int) -> list[list[str]]:
        """Find the GPUs, divide the machine, and return for each job what it cannot have here.

        Raises:
            ConfigError: If `gpus_per_job` is more than there are.
        """
        with run_in_child(available_gpus) as found_gpus:  # this process must not use CUDA, so that it can be forked
            self._gpus = found_gpus()
        if self.gpus_per_job is not None and self.gpus_per_job > len(self._gpus):
            rule = f"hydra.launcher.gpus_per_job must be <= {len(self._gpus)} (the GPUs here)"
            raise ConfigError([f"{rule}, got {self.gpus_per_job}"])
        for job in jobs:
            job.gpus = requested_gpus(job.config, self._gpus, self.n_jobs, self.gpus_per_job)
        self._slots = job_slots(jobs, self.n_jobs, self._gpus, most=n_jobs)
        return [gpu_limit_problems(job, self._gpus, self.gpus_per_job) for job in jobs]

    def has_room(self, job: Job | None) -> bool:
        """Return whether a job can start now; for None, whether some job could."""
        self._processes = [process for process in self._processes if not process.is_over]
        return len(self._processes) < self._slots and (job is None or job.gpus <= len(self._free_gpus()))

    def _free_gpus(self) -> list[str]:
        used = {gpu for process in self._processes for gpu in process.job.visible_gpus}
        return [gpu for gpu in self._gpus if gpu not in used]

    def start(self, job: Job, arguments: list[str]) -> JobProcess:
        """Start a job with GPUs of its own and its share of the threads.

        Raises:
            OSError: If it cannot be started.
        """
        job.visible_gpus = self._free_gpus()[: job.gpus]
        threads = max(1, cpu_threads() // self._slots // job.processes)
        process = JobProcess(job, arguments, threads, self.sweep)
        self._processes.append(process)
        return process

    def has_job(self, job: Job) -> bool:
        """Return False: no job outlives its launcher."""
        return False

    def leave(self, running: Sequence[RunningJob]) -> bool:
        """Return False: this machine is somebody's, who wants it back."""
        return False

    def close(self) -> None:
        """Release nothing: a process that has ended holds nothing."""
