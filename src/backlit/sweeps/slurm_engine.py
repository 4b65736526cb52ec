"""The engine ``slurm``: each job is a job of Slurm, on a cluster whose machines see the same directories."""

import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backlit.errors import ConfigError
from backlit.runs.commands import resume_command
from backlit.sweeps.attempts import record_slurm_ids
from backlit.sweeps.engine import RunningJob
from backlit.sweeps.job import Job
from backlit.sweeps.job_command import command_end, job_command
from backlit.sweeps.resources import cpus_elsewhere, gpus_elsewhere
from backlit.sweeps.slurm import QueuedJob, SlurmError, SlurmOptions, cancel, read_queue, submit
from backlit.sweeps.slurm_job import LEAD_S
from backlit.sweeps.sweep import Sweep
from backlit.text import printable, shell_path

log = logging.getLogger(__name__)

# How often the queue is asked, with one query for all jobs.
QUERY_INTERVAL_S = 2
# Why a job may wait without anybody having to do something.
_USUAL_REASONS = ("", "None", "Priority", "Resources", "BeginTime", "Dependency", "Cleaning", "Prolog")


class SlurmJob:
    """A job that is in Slurm's queue, or was.

    Args:
        engine: Asks the queue.
        job: The job.
        slurm_id: Slurm's number for it.
    """

    def __init__(self, engine: "SlurmEngine", job: Job, slurm_id: int) -> None:
        self.engine = engine
        self.job = job
        self.slurm_id = slurm_id
        self._submitted = time.monotonic()

    def handles(self) -> list[Any]:
        """Return nothing: the queue can only be asked."""
        return []

    def has_ended(self) -> bool:
        """Return whether the job has left the queue; one that Slurm requeues stays in it."""
        asked, queue = self.engine.queue()
        return asked > self._submitted and self.slurm_id not in queue

    def send_signal(self, number: signal.Signals) -> None:
        """Cancel the job: Slurm sends SIGTERM to all its processes, and takes it out of the queue if it waits."""
        options = ["--full", "--signal=KILL"] if number == signal.SIGKILL else []
        try:
            cancel(self.slurm_id, *options)
        except SlurmError as error:
            log.warning("%s: %s", self.job.name, error)

    def end(self) -> tuple[bool, Any]:
        """Return whether the job completed, and why not: nothing is left of it."""
        self.engine.forget(self)
        return command_end(self.job)


class SlurmEngine:
    """Submits each job to Slurm, and follows it there.

    Args:
        sweep: What the jobs have in common.
        n_jobs: How many jobs are in the queue at a time; -1 is all.
        gpus_per_job: Number of GPUs per job; None for as many as its ``trainer.devices`` requests.
        cpus_per_job: Number of CPU cores per job; None for one for each of its processes.
        waits: Whether the launcher stays until the last job has ended.
        options: What else Slurm is asked for.
    """

    is_elsewhere = True

    def __init__(
        self,
        sweep: Sweep,
        n_jobs: int,
        gpus_per_job: int | None,
        cpus_per_job: int | None,
        options: SlurmOptions,
        *,
        waits: bool,
    ) -> None:
        self.sweep, self.n_jobs, self.waits, self.options = sweep, n_jobs, waits, options
        self.gpus_per_job, self.cpus_per_job = gpus_per_job, cpus_per_job
        self._jobs: list[SlurmJob] = []
        self._tried = self._answered = 0.0  # when the queue was asked last, and when it answered last
        self._queue: dict[int, QueuedJob] = {}
        self._reported: set[tuple[int, str]] = set()
        self._unrecorded: dict[int, int] = {}

    def prepare(self, jobs: Sequence[Job], n_jobs: int) -> list[list[str]]:
        """Find out which of the jobs Slurm would take; return for each job why not.

        Raises:
            ConfigError: If Slurm does not work here.
        """
        try:
            self._queue = read_queue()
        except SlurmError as error:
            raise ConfigError([f"hydra.launcher.engine=slurm needs a cluster: {printable(str(error))}"]) from None
        rejections: dict[tuple[int, int], list[str]] = {}
        problems = []
        for job in jobs:
            job.gpus = gpus_elsewhere(job, self.gpus_per_job)
            resources = (job.gpus, cpus_elsewhere(job, self.cpus_per_job))
            if resources not in rejections:
                rejections[resources] = self._test(job)
            problems.append(rejections[resources])
        return problems

    def _test(self, job: Job) -> list[str]:
        """Return a line if Slurm would reject a job."""
        try:
            submit(self._sbatch_options(job), ["true"], is_test=True)
        except SlurmError as error:
            return [f"Slurm rejects the job: {printable(str(error))}"]
        return []

    def _sbatch_options(self, job: Job) -> list[str]:
        log_file = str(job.log_file.resolve()).replace("%", "%%")
        own = {
            "job-name": job.directory.name,
            "output": log_file,
            "error": log_file,
            "open-mode": "append",
            "chdir": str(Path.cwd()),
            "ntasks": 1,
            "cpus-per-task": cpus_elsewhere(job, self.cpus_per_job),
            "signal": f"B:USR1@{LEAD_S}",
        }
        return ["--requeue", *(f"--{name}={value}" for name, value in own.items()), *self.options.arguments(job.gpus)]

    def has_room(self, job: Job | None) -> bool:
        """Return whether a job can be submitted now."""
        return self.n_jobs == -1 or len(self._jobs) < self.n_jobs

    def has_job(self, job: Job) -> bool:
        """Return whether a job that an earlier launcher has submitted is in the queue."""
        return self._find(job) is not None

    def _find(self, job: Job) -> QueuedJob | None:
        """Return the Slurm job that writes a job's log, whatever a file says of it."""
        log_file = str(job.log_file.resolve())
        names = (log_file, log_file.replace("%", "%%"))
        found = (queued for queued in self._queue.values() if queued.log_file in names)
        return next((queued for queued in found if queued.state != "COMPLETING"), None)

    def start(self, job: Job, arguments: list[str]) -> SlurmJob:
        """Submit a job, or follow it where it is in the queue already.

        Raises:
            OSError: If Slurm rejects it.
        """
        queued = self._find(job)
        if queued is not None:
            slurm_id = queued.slurm_id
        else:
            job.directory.mkdir(parents=True, exist_ok=True)
            threads = max(1, cpus_elsewhere(job, self.cpus_per_job) // max(job.processes, job.gpus))
            command = job_command(job, arguments, threads)
            within = [sys.executable, "-P", "-m", "backlit.sweeps.slurm_job", str(job.directory.resolve())]
            try:
                slurm_id = submit(self._sbatch_options(job), [*within, *command])
            except SlurmError as error:
                raise OSError(printable(str(error))) from None
        self._unrecorded[job.number] = slurm_id
        running = SlurmJob(self, job, slurm_id)
        self._jobs.append(running)
        return running

    def queue(self) -> tuple[float, dict[int, QueuedJob]]:
        """Return the queue, and when that was asked for: a query that fails is not the end of a job."""
        if time.monotonic() - self._tried > QUERY_INTERVAL_S:
            self._record_ids()
            was_answered, self._tried = self._tried == self._answered, time.monotonic()
            try:
                self._queue, self._answered = read_queue(), self._tried
            except SlurmError as error:
                if was_answered:
                    log.warning("%s; the jobs are not affected", printable(str(error)))
            self._report_waiting()
        return self._answered, self._queue

    def _report_waiting(self) -> None:
        """Log why a job waits, if that may need somebody."""
        for running in self._jobs:
            queued = self._queue.get(running.slurm_id)
            if queued is None or queued.state != "PENDING" or queued.reason in _USUAL_REASONS:
                continue
            if (running.slurm_id, queued.reason) not in self._reported:
                self._reported.add((running.slurm_id, queued.reason))
                log.warning("%s waits as Slurm's job %d: %s", running.job.name, running.slurm_id, queued.reason)

    def forget(self, running: SlurmJob) -> None:
        """Free the place of a job that has ended."""
        if running in self._jobs:
            self._jobs.remove(running)

    def _record_ids(self) -> None:
        ids, self._unrecorded = self._unrecorded, {}
        if ids:
            record_slurm_ids(ids, self.sweep.directory)

    def leave(self, running: Sequence[RunningJob]) -> bool:
        """Leave the jobs in the queue, and print how to look, how to follow and how to cancel them."""
        if not self._jobs:
            return True
        directory, typed = self.sweep.directory, sys.argv[1:]
        wait = [] if self.waits else ["hydra.launcher.wait=true"]
        log.warning("%d jobs stay in Slurm's queue", len(self._jobs))
        log.warning("  look      squeue --me; backlit-report %s", shell_path(directory))
        log.warning("  follow    %s", resume_command(directory, typed, *wait, is_sweep=True))
        log.warning("  cancel    scancel %s", " ".join(str(one.slurm_id) for one in self._jobs))
        return True

    def close(self) -> None:
        """Record what Slurm calls the jobs."""
        self._record_ids()
