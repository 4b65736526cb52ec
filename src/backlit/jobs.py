"""The processes of a sweep: each job is a session of its own, none can harm another, and nothing of one stays behind.

A job is forked from a process that has imported everything and computed nothing. Where a process cannot be forked
safely it is started anew, as the command that a person would type for it.
"""

import contextlib
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import rich
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from backlit.run import quoted

# Elsewhere fork is missing, or unsafe beside the system's own libraries.
CAN_FORK = sys.platform == "linux"
# Seconds that a job has to end itself, when the sweep is stopped or its process is gone.
PATIENCE = 15
# A job of a sweep that was started inside another distributed program is not a part of that.
_OF_RANKS = (
    "LOCAL_RANK",
    "NODE_RANK",
    "RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
# Overrides that are about the sweep, not about a job.
_OF_SWEEPS = (
    "hydra.sweep.",
    "hydra/sweeper",
    "hydra.sweeper.",
    "hydra/launcher",
    "hydra.launcher.",
    "hydra.mode",
    "hydra.job.config.override_dirname.",
)


@dataclass
class Job:
    """One run of a sweep.

    Args:
        number: Its place in the sweep, from 0.
        overrides: What makes its config, as Hydra writes it.
        config: What that composed to, Hydra's part included.
        directory: Its run directory.
        label: What of its overrides differs from job to job.
        checkpoint: Where to go on from, if an attempt before left a checkpoint.
        gpus: How many GPUs it gets.
    """

    number: int
    overrides: list[str]
    config: DictConfig
    directory: Path
    label: str
    checkpoint: Path | None = None
    gpus: int = 0
    visible_gpus: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return number and label."""
        return f"job {self.number} {self.label}".rstrip()

    @property
    def log_file(self) -> Path:
        """Return the file that gets all that the job prints."""
        return self.directory / f"{self.config.hydra.job.name}.log"

    @property
    def processes(self) -> int:
        """Return how many processes it computes with on the CPU."""
        devices = OmegaConf.select(self.config, "trainer.devices")
        on_cpu = OmegaConf.select(self.config, "trainer.accelerator") == "cpu"
        return devices if on_cpu and isinstance(devices, int) and devices > 0 else 1

    def arguments(self, hydra_overrides: list[str], task_overrides: list[str]) -> list[str]:
        """Return the command-line arguments that make it a run by itself, with which its ranks are started too.

        Args:
            hydra_overrides: Those of the sweep that are about Hydra.
            task_overrides: Those of the sweep that are not; the job's own take their place.
        """
        flags = [a for a in sys.argv[1:] if a not in {"-m", "--multirun", *task_overrides, *hydra_overrides}]
        kept = [override for override in hydra_overrides if not override.lstrip("+~").startswith(_OF_SWEEPS)]
        from_checkpoint = [f"ckpt_path={quoted(str(self.checkpoint))}"] if self.checkpoint else []
        return [*flags, *self.overrides, *kept, *from_checkpoint]


class JobProcess:
    """A job that runs, with its ranks and workers.

    Args:
        job: The job.
        arguments: Its command-line arguments.
        threads: Threads that each of its processes computes with.
        hydra_context: What Hydra runs a job with.
        task_function: What the job does.
    """

    def __init__(
        self, job: Job, arguments: list[str], threads: int, hydra_context: HydraContext, task_function: TaskFunction
    ) -> None:
        self.job = job
        self._sent: tuple[bool, Any] | None = None
        environment = {name: value for name, value in os.environ.items() if name not in _OF_RANKS}
        environment["OMP_NUM_THREADS"] = str(threads)
        if job.visible_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(job.visible_gpus)
        job.directory.mkdir(parents=True, exist_ok=True)
        if CAN_FORK:
            self._connection, sender = multiprocessing.Pipe(duplex=False)
            work = functools.partial(
                _work, job, os.getpid(), arguments, environment, threads, hydra_context, task_function
            )
            self._process: Any = _fork(work, sender)
        else:
            self._connection, sender = multiprocessing.Pipe(duplex=False)  # nothing is ever sent
            sender.close()
            self._process = _start_anew(job, arguments, environment)

    def handles(self) -> list[Any]:
        """Return what `multiprocessing.connection.wait` can wait for: news, or the end."""
        handles = [] if self._connection.closed else [self._connection]
        return handles if isinstance(self._process, subprocess.Popen) else [*handles, self._process.sentinel]

    def has_ended(self) -> bool:
        """Tell whether it has ended; take what it has sent meanwhile."""
        if not self._connection.closed and self._connection.poll():
            try:
                self._sent = self._connection.recv()
            except EOFError:
                self._connection.close()
        return self._exit_code() is not None

    def _exit_code(self) -> int | None:
        code: int | None = (
            self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode
        )
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number) if hasattr(os, "killpg") else self._process.terminate()

    def end(self) -> tuple[bool, Any]:
        """End all of it that still runs; return whether it completed, and its value or what went wrong."""
        self.send_signal(signal.SIGKILL)
        (self._process.wait if isinstance(self._process, subprocess.Popen) else self._process.join)()
        self.has_ended()
        self._connection.close()
        if self._sent is not None:
            return self._sent
        code = self._exit_code()
        assert code is not None
        if code == 0 and isinstance(self._process, subprocess.Popen):
            return True, None
        if code == -signal.SIGKILL:
            return False, "killed by SIGKILL (if nobody did: by the system, out of memory)"
        return False, f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _fork(work: Callable[[], tuple[bool, Any]], sender: Connection) -> Any:
    """Return a forked process that does something and sends what that returns."""

    def work_and_send() -> None:
        completed, value = work()
        try:
            sender.send((completed, value))
        except (pickle.PicklingError, AttributeError, TypeError):
            sender.send((completed, repr(value)))

    sys.stdout.flush()
    sys.stderr.flush()
    process = multiprocessing.get_context("fork").Process(target=work_and_send)
    process.start()
    sender.close()
    return process


def in_a_child(function: Callable[[], Any]) -> Callable[[], Any]:
    """Begin to do something in a process of its own, where it can be forked; return what waits for the result.

    That raises what `function` has raised, and RuntimeError if the process has died.
    """
    if not CAN_FORK:
        return function

    def work() -> tuple[bool, Any]:
        try:
            return True, function()
        except Exception as error:
            return False, error

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _fork(work, sender)

    def result() -> Any:
        try:
            succeeded, value = receiver.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"looking at the jobs ended with exit code {process.exitcode}") from None
        process.join()
        if not succeeded:
            raise value
        return value

    return result


def _start_anew(job: Job, arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a job as the command that a person would type."""
    module = sys.modules["__main__"].__spec__
    program = [os.path.abspath(sys.argv[0])] if module is None else ["-m", module.name.removesuffix(".__main__")]
    command = [sys.executable, *program, *arguments, f"hydra.run.dir={quoted(str(job.directory))}"]
    with job.log_file.open("a") as output:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def _work(
    job: Job,
    parent: int,
    arguments: list[str],
    environment: dict[str, str],
    threads: int,
    hydra_context: HydraContext,
    task_function: TaskFunction,
) -> tuple[bool, Any]:
    """Do a job in the process that was forked for it; return whether it completed, and its value or what went wrong."""
    _leave_parent(job.log_file, parent)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [sys.argv[0], *arguments]
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)

    @functools.wraps(task_function)
    def task(config: DictConfig) -> Any:
        root = logging.getLogger()
        to_files: list[logging.Handler] = [
            handler for handler in root.handlers if isinstance(handler, logging.FileHandler)
        ]
        # Where the log is a file already, the console, which is the same file here, need not repeat it.
        root.handlers = to_files or root.handlers
        return task_function(config)

    returned = run_job(
        hydra_context=hydra_context,
        task_function=task,
        config=job.config,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
    )
    value = returned._return_value
    if returned.status == JobStatus.COMPLETED:
        return True, value
    return False, f"{type(value).__name__}: {value}"


def _leave_parent(log_file: Path, parent: int) -> None:
    """Give a forked process its own session, signals and output; let it end when its parent does."""
    os.setsid()
    threading.Thread(target=_end_with, args=[parent], daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    rich.reconfigure()  # this is no terminal any more


def _end_with(parent: int) -> None:
    """Wait until this process's parent is gone; then end all processes of the session, as the parent would have."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGTERM)
    time.sleep(PATIENCE)
    os.killpg(0, signal.SIGKILL)
