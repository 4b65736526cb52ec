"""The process of a job: a session of its own, so that no job can affect another, and none leaves processes behind.

A job is forked from a process that has imported everything and computed nothing. If processes cannot be
forked safely, the job is a command.
"""

import functools
import multiprocessing
import os
import signal
import subprocess
from typing import Any

from backlit.distributed.environment import LAUNCHER_VARIABLES
from backlit.sweeps.fork import CAN_FORK, fork
from backlit.sweeps.forked_job import run_forked_job
from backlit.sweeps.job import Job
from backlit.sweeps.job_command import job_command
from backlit.sweeps.sweep import Sweep


class JobProcess:
    """A running job, with its ranks and workers.

    Args:
        job: The job.
        arguments: Its command-line arguments.
        threads: Number of computing threads of each of its processes.
        sweep: What it has in common with the other jobs.
    """

    def __init__(self, job: Job, arguments: list[str], threads: int, sweep: Sweep) -> None:
        self.job = job
        self.is_over = False
        self._sent: tuple[bool, Any] | None = None
        # If a sweep is started inside another distributed program, its jobs are not ranks of that program.
        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
        environment["OMP_NUM_THREADS"] = str(threads)
        if job.visible_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(job.visible_gpus)
        job.directory.mkdir(parents=True, exist_ok=True)
        self._connection, sender = multiprocessing.Pipe(duplex=False)
        if CAN_FORK:
            work = functools.partial(run_forked_job, job, os.getpid(), arguments, environment, threads, sweep)
            self._process: Any = fork(work, self._connection, sender)
        else:
            sender.close()  # such a process sends nothing
            self._process = _start_command(job, job_command(job, arguments, threads), environment)

    def handles(self) -> list[Any]:
        """Return the handles for `multiprocessing.connection.wait`: of the result, and of the end."""
        handles = [] if self._connection.closed else [self._connection]
        return handles if isinstance(self._process, subprocess.Popen) else [*handles, self._process.sentinel]

    def has_ended(self) -> bool:
        """Return whether the job has ended; receive its result if it has sent one."""
        if not self._connection.closed and self._connection.poll():
            try:
                self._sent = self._connection.recv()
            except (EOFError, OSError):  # OSError: it was killed while it was sending
                self._connection.close()
        return self._exit_code() is not None

    def _exit_code(self) -> int | None:
        code: int | None = (
            self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode
        )
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the job; a job that has not yet left this process's session is killed."""
        try:
            os.killpg(self._process.pid, number) if hasattr(os, "killpg") else self._process.terminate()
        except ProcessLookupError:
            self._process.kill()  # nothing has begun in it; nothing happens if it has ended

    def end(self) -> tuple[bool, Any]:
        """Kill its remaining processes; return whether the job completed, and its value or the error."""
        self.send_signal(signal.SIGKILL)
        (self._process.wait if isinstance(self._process, subprocess.Popen) else self._process.join)()
        self.has_ended()
        self._connection.close()
        self.is_over = True
        if self._sent is not None:
            return self._sent
        code = self._exit_code()
        assert code is not None
        if code == 0 and isinstance(self._process, subprocess.Popen):
            return True, None
        if code == -signal.SIGKILL:
            return False, "killed by SIGKILL (if nobody sent it, by the system, out of memory)"
        return False, f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _start_command(job: Job, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a job as a command, in a session of its own; its output goes into its log."""
    with job.log_file.open("a") as output:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
