"""Sweeps: what jobs there are, whether each makes sense, which are done already, and running the others.

What a sweep consists of is in its ``sweep.json``, how a job went in the job's own ``run.json``.
"""

import contextlib
import functools
import gc
import importlib
import logging
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from backlit.entry import JobError, cpu_threads
from backlit.jobs import PATIENCE, Job, JobProcess, in_a_child
from backlit.record import checkouts, end_record, sigterm_exits
from backlit.run import ConfigError, Run, brief, clear, from_here, read_sweep, write_json
from backlit.screen import Screen

log = logging.getLogger(__name__)

# What a run imports while it goes; a forked job then has it.
_PRELOADED = (
    "backlit.callbacks",
    "backlit.config",
    "backlit.data",
    "backlit.load",
    "backlit.loggers",
    "backlit.loop",
    "backlit.models",
    "backlit.train",
    "matplotlib.backends.backend_agg",
    "torch.utils.tensorboard",
    "torchvision.transforms.v2",
)


class JobResult(JobReturn):
    """Hydra's, but a failure is not told on stderr: the sweep's summary tells it."""

    @property
    def return_value(self) -> Any:
        """Return what the job returned.

        Raises:
            JobError: If it failed.
        """
        if self.status != JobStatus.COMPLETED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


def launch(
    config: DictConfig,
    hydra_context: HydraContext,
    task_function: TaskFunction,
    job_overrides: Sequence[list[str]],
    *,
    first_number: int,
    n_jobs: int,
    gpus_per_job: int | None,
) -> list[JobReturn]:
    """Run jobs, at most `n_jobs` side by side, and return what became of each, in their order.

    A task function may have an attribute ``check``, which returns what is wrong with a config, a line a problem;
    then all jobs are checked before the first one starts.

    Args:
        config: What the sweep as a whole was composed to.
        hydra_context: Composes the jobs' configs.
        task_function: What a job does with its config.
        job_overrides: The overrides of each job.
        first_number: The number of the first job.
        n_jobs: Jobs that run side by side; -1 is as many as there are GPUs, or CPU cores, for.
        gpus_per_job: GPUs that a job gets; None for what its ``trainer.devices`` asks for.

    Raises:
        ConfigError: If something is wrong with one of the jobs; then none is started.
    """
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    if not job_overrides:
        raise ConfigError(["a sweep must have at least one job, got none: one of the lists of values is empty"])
    sweep_dir = Path(config.hydra.sweep.dir)
    sweep_dir.mkdir(parents=True, exist_ok=True)
    check = getattr(task_function, "check", None)
    with _only_one(sweep_dir):
        requested = len(job_overrides)
        if first_number == 0 and not (sweep_dir / "optuna.db").exists():
            job_overrides = [*job_overrides, *_left_over(sweep_dir, job_overrides)]
        if first_number == 0:
            log.info("%d jobs, checked first: %s", len(job_overrides), from_here(sweep_dir))
        # On the other core, while this process imports.
        composed = in_a_child(lambda: _compose(config, hydra_context, job_overrides, first_number, sweep_dir))
        if check is not None:
            for name in _PRELOADED:
                importlib.import_module(name)
            # Neither the jobs' collectors nor the one at exit need look at what the imports left; memory stays shared.
            gc.freeze()
            checkouts()  # asked here, while the jobs are composed, each of them has it
        jobs: list[Job] = composed()
        gpus = [] if check is None else _check(jobs, check, n_jobs, gpus_per_job)
        _write_down(jobs, sweep_dir)
        results, waiting = _sort_out(jobs)
        places = _places(waiting, n_jobs, gpus)
        threads = max(1, cpu_threads() // places)
        overrides: Any = OmegaConf.to_container(config.hydra.overrides, resolve=False)

        def start(job: Job) -> JobProcess:
            _make_ready(job)
            arguments = job.arguments(overrides["hydra"], overrides["task"])
            return JobProcess(job, arguments, max(1, threads // job.processes), hydra_context, task_function)

        _run(waiting, start, places, gpus, results)
    return [results[job.number] for job in jobs[:requested]]


def _left_over(sweep_dir: Path, job_overrides: Sequence[list[str]]) -> list[list[str]]:
    """Return the overrides of jobs that a sweep had before and has not completed, beside those asked for now."""
    known = [tuple(_of_job(overrides)) for overrides in job_overrides]
    left = []
    for job in read_sweep(sweep_dir)["jobs"]:
        run = _read(sweep_dir / job["directory"])
        if tuple(job["overrides"]) not in known and not (run and run.status == "completed"):
            left.append(list(job["overrides"]))
    return left


def _of_job(overrides: list[str]) -> list[str]:
    """Return overrides without what chose them: a job is not a sweep."""
    return [override for override in overrides if not override.startswith("sweep=")]


def _compose(
    config: DictConfig,
    hydra_context: HydraContext,
    job_overrides: Sequence[list[str]],
    first_number: int,
    sweep_dir: Path,
) -> list[Job]:
    """Compose every job; one that the sweep had before keeps its number and directory."""
    recorded = read_sweep(sweep_dir)["jobs"]
    known = {tuple(job["overrides"]): job for job in recorded}
    free = max([first_number, *(job["number"] + 1 for job in recorded)])
    typed = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(typed, list)
    jobs = []
    for of_sweep in job_overrides:
        overrides = _of_job(of_sweep)
        before = known.get(tuple(overrides))
        number = before["number"] if before else free
        free += before is None
        composed = hydra_context.config_loader.load_sweep_config(config, of_sweep)
        with open_dict(composed):
            composed.hydra.job.id = composed.hydra.job.num = number
            directory = sweep_dir / (before["directory"] if before else str(composed.hydra.sweep.subdir))
            # To itself and to the processes that it starts, a job is a run like any other.
            composed.hydra.mode = RunMode.RUN
            composed.hydra.run.dir = str(directory)
            composed.hydra.overrides.task = overrides
        label = brief(" ".join(override for override in overrides if override not in typed))
        jobs.append(Job(number, overrides, composed, directory, label))
    return jobs


def _check(
    jobs: list[Job], check: Callable[[DictConfig], list[str]], n_jobs: int, gpus_per_job: int | None
) -> list[str]:
    """Check every job and return the names of the GPUs.

    That is done in processes of their own: this one must not compute anything, so that it can be forked.
    """
    asked = in_a_child(_gpus)
    share = math.ceil(len(jobs) / cpu_threads())
    parts = [jobs[first : first + share] for first in range(0, len(jobs), share)]
    checked = [in_a_child(functools.partial(_problems, check, part)) for part in parts]
    problems: list[list[str]] = [lines for part in checked for lines in part()]
    gpus: list[str] = asked()
    found = []
    for job, lines in zip(jobs, problems, strict=True):
        job.gpus = gpus_asked_for(job.config, gpus, n_jobs, gpus_per_job)
        limit = len(gpus) if gpus_per_job is None else min(gpus_per_job, len(gpus))
        if job.gpus > limit:
            lines = [*lines, f"trainer.devices must be <= {limit} (the GPUs that a job can have), got {job.gpus}"]
        found += [f"{job.name}: {line}" for line in lines]
    if gpus_per_job is not None and gpus_per_job > len(gpus):
        found = [f"hydra.launcher.gpus_per_job must be <= {len(gpus)} (the GPUs here), got {gpus_per_job}"]
    if found:
        raise ConfigError(found)
    return gpus


def _problems(check: Callable[[DictConfig], list[str]], jobs: list[Job]) -> list[list[str]]:
    return [check(_task_config(job.config)) for job in jobs]


def _task_config(config: DictConfig) -> DictConfig:
    task_config = config.copy()
    with open_dict(task_config):
        del task_config["hydra"]
    return task_config


def _gpus() -> list[str]:
    """Return the GPUs that there are, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(map(str, range(count))) if visible is None else visible.split(",")[:count]


def gpus_asked_for(config: DictConfig, gpus: list[str], n_jobs: int, gpus_per_job: int | None) -> int:
    """Return how many GPUs a job takes.

    Args:
        config: The job's config.
        gpus: The GPUs that there are.
        n_jobs: Jobs that run side by side.
        gpus_per_job: GPUs that a job is to get; None for as many as it asks for.
    """
    if not gpus or OmegaConf.select(config, "trainer.accelerator") not in ("auto", "gpu", "cuda"):
        return 0
    devices = OmegaConf.select(config, "trainer.devices")
    if OmegaConf.is_list(devices):
        devices = len(devices)
    if isinstance(devices, int) and devices > 0:
        return max(devices, gpus_per_job or 0)
    # "auto" and -1 mean all of them: those of the machine, or one when several jobs share it.
    return gpus_per_job or (len(gpus) if n_jobs == 1 else 1)


def _places(jobs: list[Job], n_jobs: int, gpus: list[str]) -> int:
    """Return how many jobs run side by side."""
    if n_jobs == -1 and jobs:
        most = max(job.gpus for job in jobs)
        n_jobs = len(gpus) // most if most else cpu_threads() // max(job.processes for job in jobs)
    return max(1, min(n_jobs, len(jobs)))


def _write_down(jobs: list[Job], sweep_dir: Path) -> None:
    """Add the jobs to ``sweep.json``, with the command's arguments, which may have changed."""
    content = read_sweep(sweep_dir) | {"arguments": sys.argv[1:]}
    recorded = {job["number"]: job for job in content["jobs"]}
    for job in jobs:
        directory = str(job.directory.relative_to(sweep_dir))
        recorded[job.number] = {"number": job.number, "directory": directory, "overrides": job.overrides}
    write_json(sweep_dir / "sweep.json", content | {"jobs": [recorded[number] for number in sorted(recorded)]})


@contextlib.contextmanager
def _only_one(sweep_dir: Path) -> Iterator[None]:
    """Keep another process from running the same sweep meanwhile.

    Raises:
        ConfigError: If one does.
    """
    lock = FileLock(sweep_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError([f"{sweep_dir} is being run by another process; wait for it, or end it"]) from None
    try:
        yield
    finally:
        lock.release()


def _read(directory: Path) -> Run | None:
    """Return what a job has left; nothing if that cannot be read."""
    try:
        return Run.read(directory)
    except ValueError as error:
        log.warning("%s", error)
        return None


def _sort_out(jobs: list[Job]) -> tuple[dict[int, JobReturn], list[Job]]:
    """Return the results of the jobs that are completed already, and the other jobs."""
    results: dict[int, JobReturn] = {}
    waiting = []
    for job in jobs:
        earlier = _read(job.directory)
        if earlier and earlier.status == "running":
            where = f"process {earlier.record.get('pid')} on {earlier.record.get('host')}"
            what = f"end it, or, if there is no such process, delete {job.directory}/run.json"
            raise ConfigError([f"{job.name} is running ({where}): {what}"])
        if earlier and earlier.status == "completed":
            results[job.number] = _result(job, JobStatus.COMPLETED, earlier.optimized)
        else:
            waiting.append(job)
    if results:
        log.info("%d of %d jobs are completed already and are kept", len(results), len(jobs))
    return results, waiting


def _result(job: Job, status: JobStatus, value: Any) -> JobReturn:
    hydra = job.config.hydra
    return JobResult(
        overrides=list(hydra.overrides.task),
        cfg=_task_config(job.config),
        hydra_cfg=OmegaConf.create({"hydra": hydra}),
        working_dir=os.getcwd() if hydra.job.chdir is False else str(job.directory),
        task_name=hydra.job.name,
        status=status,
        _return_value=value,
    )


def _make_ready(job: Job) -> None:
    """Find the checkpoint that an attempt before has left; where there is none, clear away what else it has left."""
    checkpoint = None
    if any(job.directory.glob("checkpoints/*.ckpt")):
        from backlit.load import last_checkpoint

        try:
            checkpoint = last_checkpoint(job.directory)
        except ValueError as error:
            log.warning("%s: %s; it starts anew", job.name, error)
    if checkpoint is not None:
        job.checkpoint = checkpoint
        with open_dict(job.config):
            job.config.ckpt_path = str(checkpoint)
    elif (job.directory / "run.json").exists():
        clear(job.directory)


def _run(
    waiting: list[Job],
    start: Callable[[Job], JobProcess],
    places: int,
    gpus: list[str],
    results: dict[int, JobReturn],
) -> None:
    """Run jobs and add their results; whatever is raised meanwhile, Ctrl-C and SIGTERM too, ends those that run."""
    queue, running, free_gpus = deque(waiting), list[JobProcess](), list(gpus)
    with sigterm_exits(), Screen(len(waiting) + len(results), len(results)) as screen:
        try:
            while queue or running:
                while queue and len(running) < places and queue[0].gpus <= len(free_gpus):
                    job = queue.popleft()
                    job.visible_gpus, free_gpus = free_gpus[: job.gpus], free_gpus[job.gpus :]
                    try:
                        running.append(start(job))
                    except OSError as error:
                        free_gpus += job.visible_gpus
                        results[job.number] = _failed(job, str(error))
                        screen.ended(job, str(error))
                        continue
                    screen.started(job)
                wait([handle for process in running for handle in process.handles()], timeout=0.2)
                for process in [process for process in running if process.has_ended()]:
                    running.remove(process)
                    free_gpus += process.job.visible_gpus
                    results[process.job.number], problem = _finish(process)
                    screen.ended(process.job, problem)
                screen.show([process.job for process in running])
        except BaseException as error:
            _stop(running, signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            raise


def _finish(process: JobProcess) -> tuple[JobReturn, str | None]:
    """Return the result of a job that has ended, and what went wrong with it."""
    job = process.job
    completed, value = process.end()
    run = _read(job.directory)
    if completed:
        return _result(job, JobStatus.COMPLETED, run.optimized if value is None and run else value), None
    problem = str(value if run is None else run.record.get("error") or value)
    _end_for(job, "failed", problem)
    return _failed(job, problem), problem


def _failed(job: Job, problem: str) -> JobReturn:
    return _result(job, JobStatus.FAILED, JobError(f"{job.name}: {problem}"))


def _stop(running: list[JobProcess], number: signal.Signals) -> None:
    """Tell all jobs to end, wait, end those that do not, and write down that they were interrupted."""
    for process in running:
        process.send_signal(number)
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: no more patience
        while not all(process.has_ended() for process in running) and time.monotonic() < deadline:
            wait([handle for process in running for handle in process.handles()], timeout=0.2)
    for process in running:
        process.end()
        _end_for(process.job, "interrupted", number.name)


def _end_for(job: Job, status: str, error: str) -> None:
    """Write down how a job ended that could not do so itself."""
    board = job.directory / "tensorboard"
    try:
        if end_record(job.directory, status, error, job.overrides) and board.is_dir():
            from backlit.loggers import write_session_end

            write_session_end(board, status)
    except OSError as problem:
        log.warning("%s: how it ended cannot be written: %s", job.name, problem)
