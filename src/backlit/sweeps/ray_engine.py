"""The engine ``ray``: each job is an actor of Ray, on this machine or on a cluster that sees the same directories."""

import contextlib
import importlib.util
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backlit.config.machine import cpu_threads
from backlit.distributed.environment import LAUNCHER_VARIABLES
from backlit.errors import ConfigError, JobError
from backlit.runs.commands import resume_command
from backlit.runs.files import is_locked
from backlit.sweeps.engine import RunningJob
from backlit.sweeps.job import Job
from backlit.sweeps.job_command import command_end, job_command
from backlit.sweeps.resources import cpus_elsewhere, gpus_elsewhere
from backlit.sweeps.sweep import Sweep
from backlit.text import printable

log = logging.getLogger(__name__)

# So often a job goes on elsewhere when its machine is gone: a job may be what brings them down.
_MOST_LOSSES = 3
# Seconds for what a lost job has left to end: on a shared disk a lock outlives a dead machine by a minute.
_LOCK_S = 120
# Seconds to start a Ray, to join one, and to learn that nobody listens.
_START_S, _JOIN_S, _CONNECT_S = 120, 30, 5


class RayJob:
    """A job that Ray has.

    Args:
        engine: Talks to Ray.
        job: The job.
        start: What the engine sends to start it, also elsewhere.
    """

    def __init__(self, engine: "RayEngine", job: Job, start: tuple[Any, ...]) -> None:
        self.engine, self.job, self.start = engine, job, start
        self.is_over = self.is_stopped = False
        self.losses = 0
        self.lost_at: float | None = None  # when its machine was lost, until it goes on elsewhere
        self.problem: str | None = None

    def handles(self) -> list[Any]:
        """Return nothing: one connection is for all jobs."""
        return []

    def has_ended(self) -> bool:
        """Return whether the job has ended; let a lost one go on elsewhere once nothing of it runs any more."""
        self.engine.receive()
        if self.lost_at is not None and not self.is_over:
            is_free = not is_locked(self.job.directory) or time.monotonic() - self.lost_at > _LOCK_S
            if is_free and self.engine.send(*self.start):
                self.lost_at = None
        return self.is_over

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the job."""
        self.is_stopped = True
        if self.lost_at is not None:
            self.is_over = True
        self.engine.send("send_signal", self.job.number, int(number))

    def end(self) -> tuple[bool, Any]:
        """End what is left of the job; return whether it completed, and otherwise why not."""
        self.engine.forget(self)
        completed, problem = command_end(self.job)
        return completed, problem if completed else self.problem or problem


class RayEngine:
    """Gives the jobs to Ray, by a process of its own (`ray_driver`).

    Args:
        sweep: What the jobs have in common.
        n_jobs: How many jobs Ray has at a time; -1 is as many as its machines have room for.
        gpus_per_job: Number of GPUs per job; None for as many as its ``trainer.devices`` requests.
        cpus_per_job: Number of CPU cores per job; None for one for each of its processes.
        address: That of a cluster; None for a Ray of its own.
    """

    is_elsewhere = True
    waits = True

    def __init__(
        self, sweep: Sweep, n_jobs: int, gpus_per_job: int | None, cpus_per_job: int | None, address: str | None
    ) -> None:
        self.sweep, self.n_jobs = sweep, n_jobs
        self.gpus_per_job, self.cpus_per_job = gpus_per_job, cpus_per_job
        address = address or os.environ.get("RAY_ADDRESS")
        self.address = None if address in ("", "local") else address
        self._driver: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._machines: list[tuple[float, float]] = []
        self._needs = (1, 0)  # the most CPUs and GPUs of a job
        self._jobs: dict[int, RayJob] = {}
        self._is_gone = False

    # Before the first job

    def prepare(self, jobs: Sequence[Job], n_jobs: int) -> list[list[str]]:
        """Start or join Ray; return for each job what none of its machines can give it.

        Raises:
            ConfigError: If there is no Ray, or no cluster at the address.
        """
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(["hydra.launcher.engine=ray needs Ray: pip install 'backlit[ray]'"])
        if self._driver is None:
            self._connect()
        for job in jobs:
            job.gpus = gpus_elsewhere(job, self.gpus_per_job)
        cpus = [cpus_elsewhere(job, self.cpus_per_job) for job in jobs]
        self._needs = (max(cpus), max(job.gpus for job in jobs))
        return [self._limit_problems(job) for job in jobs]

    def _connect(self) -> None:
        """Start the driver and wait until it has a Ray.

        Raises:
            ConfigError: If it has none.
        """
        where = "here" if self.address in (None, "auto") else f"at {self.address}"
        if self.address not in (None, "auto"):
            host, _, port = self.address.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
            except (OSError, ValueError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigError([f"hydra.launcher.engine=ray finds no cluster {where}: {reason}"]) from None
        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
        # Ray sends statistics home, and announces on every actor without GPUs what it will do later.
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        if self.address is None:  # Ray listens on all interfaces, and runs what it is sent
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            environment.pop("RAY_ADDRESS", None)
        self._connection, other = multiprocessing.Pipe()
        command = [sys.executable, "-P", "-m", "backlit.sweeps.ray_driver", str(other.fileno())]
        self._driver = subprocess.Popen(
            [*command, self.address or "", str(cpu_threads())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
            start_new_session=True,  # a terminal's Ctrl-C is for the launcher
        )
        other.close()
        self._is_gone = False
        reason = "it does not answer"
        try:
            if self._connection.poll(_START_S if self.address is None else _JOIN_S):
                kind, content = self._connection.recv()
                if kind == "machines":
                    self._machines = content
                    return
                reason = content
        except (EOFError, OSError):
            reason = "it has ended while it started"
        self._driver.kill()
        self.close()
        raise ConfigError([f"hydra.launcher.engine=ray finds no cluster {where}: {printable(reason)}"])

    def _limit_problems(self, job: Job) -> list[str]:
        cpus = cpus_elsewhere(job, self.cpus_per_job)
        if any(cpus <= machine[0] and job.gpus <= machine[1] for machine in self._machines):
            return []
        most = [max((machine[kind] for machine in self._machines), default=0) for kind in (0, 1)]
        problems = []
        if cpus > most[0]:
            rule = f"hydra.launcher.cpus_per_job must be <= {most[0]:g} (the CPUs of the largest machine)"
            problems.append(f"{rule}, got {cpus}{'' if self.cpus_per_job else ', one for each process'}")
        if job.gpus > most[1]:
            problems.append(f"a job must have at most {most[1]:g} GPUs (those of the largest machine), got {job.gpus}")
        return problems or [f"no machine has both {cpus} CPUs and {job.gpus} GPUs"]

    # While jobs run

    def has_room(self, job: Job | None) -> bool:
        """Return whether Ray is to be given a job now; it starts as soon as a machine has room."""
        self.receive()
        return len(self._jobs) < (self._capacity() if self.n_jobs == -1 else self.n_jobs)

    def _capacity(self) -> int:
        """Return how many jobs the machines have room for, at least 1."""
        pairs = [list(zip(machine, self._needs, strict=True)) for machine in self._machines]
        return max(1, sum(min(int(has // need) for has, need in pair if need) for pair in pairs))

    def has_job(self, job: Job) -> bool:
        """Return False: no job outlives its launcher."""
        return False

    def start(self, job: Job, arguments: list[str]) -> RayJob:
        """Give a job to Ray.

        Raises:
            OSError: If its directory cannot be made.
        """
        job.directory.mkdir(parents=True, exist_ok=True)
        cpus = cpus_elsewhere(job, self.cpus_per_job)
        threads = max(1, cpus // max(job.processes, job.gpus))
        words = job_command(job, arguments, threads)
        environment = dict(os.environ)  # as a cluster's queue would give it to the job
        start = ("start", job.number, cpus, job.gpus, words, str(job.log_file.resolve()), str(Path.cwd()), environment)
        running = self._jobs[job.number] = RayJob(self, job, start)
        self.send(*start)
        return running

    def send(self, *message: Any) -> bool:
        """Send the driver a message; return False if it is gone, which `receive` notices."""
        try:
            self._connection.send(message)
        except OSError:
            return False
        return True

    def receive(self) -> None:
        """Take what the driver has reported.

        Raises:
            JobError: Once, if Ray is gone.
        """
        if self._is_gone or self._connection is None:
            return
        try:
            while self._connection.poll():
                self._take(*self._connection.recv())
        except (EOFError, OSError):
            self._lose("its process has ended")

    def _take(self, kind: str, *content: Any) -> None:
        if kind == "machines":
            (self._machines,) = content
        elif kind == "failed":
            self._lose(*content)
        elif (running := self._jobs.get(content[0])) is None:
            return
        elif kind == "ended":
            running.is_over, running.problem = True, content[1]
        elif kind == "lost":
            self._move(running, content[1])

    def _lose(self, reason: str) -> None:
        self._is_gone = True
        for running in self._jobs.values():
            running.is_over = True
        again = resume_command(self.sweep.directory, sys.argv[1:], is_sweep=True)
        log.error("Ray is gone: %s; to go on: %s", printable(reason), again)
        raise JobError("Ray is gone")

    def _move(self, running: RayJob, reason: str) -> None:
        """Let a job whose machine is gone go on elsewhere, unless it is to end, or that has happened too often."""
        running.losses += 1
        if running.is_stopped or running.losses > _MOST_LOSSES:
            running.is_over, running.problem = True, f"its machine was lost {running.losses} times: {printable(reason)}"
            return
        running.lost_at = time.monotonic()
        log.warning("%s: its machine is gone; it goes on elsewhere from its last checkpoint", running.job.name)

    def forget(self, running: RayJob) -> None:
        """Free the place of a job."""
        if self._jobs.pop(running.job.number, None) is not None:
            self.send("end", running.job.number)

    def leave(self, running: Sequence[RunningJob]) -> bool:
        """Return False: the actors end with the launcher."""
        return False

    def close(self) -> None:
        """Leave the cluster, or end the Ray that this launcher has started."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        self._connection.close()
        try:
            driver.wait(timeout=_JOIN_S)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
        with contextlib.suppress(ProcessLookupError):  # of a driver that was killed, Ray's agents would stay
            os.killpg(driver.pid, signal.SIGKILL)
        self._connection = None
        self._jobs.clear()
