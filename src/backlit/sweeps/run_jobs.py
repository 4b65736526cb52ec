"""Runs jobs in parallel: each starts when a slot and its GPUs are free, and none survives an interrupt."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import wait

from hydra.core.utils import JobReturn

from backlit.runs.run import Run
from backlit.sweeps.attempts import read_run
from backlit.sweeps.forked_job import JOB_GRACE_S
from backlit.sweeps.job import Job
from backlit.sweeps.job_process import JobProcess
from backlit.sweeps.job_results import completed_result, failed_result, record_end
from backlit.sweeps.screen import Screen
from backlit.training.signals import hold_signals, sigterm_ends_in_order

# How long the launcher waits for events of its jobs before it polls them and redraws the screen.
POLL_S = 0.2


def run_jobs(
    waiting: list[Job],
    start: Callable[[Job], JobProcess],
    slots: int,
    gpus: list[str],
    results: dict[int, JobReturn],
) -> None:
    """Run jobs, and add their results to `results` by number.

    Any exception meanwhile, including Ctrl-C and SIGTERM, ends the running jobs.

    Args:
        waiting: The jobs, in starting order.
        start: Starts a job; an OSError means that this job has failed.
        slots: How many jobs run at a time.
        gpus: The names of the GPUs that the jobs share.
        results: The results of jobs that were completed before.
    """
    queue, running, free_gpus = deque(waiting), list[JobProcess](), list(gpus)
    with sigterm_ends_in_order(), Screen(len(waiting) + len(results), len(results)) as screen:
        try:
            while queue or running:
                while queue and len(running) < slots and queue[0].gpus <= len(free_gpus):
                    job = queue.popleft()
                    job.visible_gpus, free_gpus = free_gpus[: job.gpus], free_gpus[job.gpus :]
                    try:
                        with hold_signals():
                            running.append(start(job))
                    except OSError as error:
                        free_gpus += job.visible_gpus
                        results[job.number] = failed_result(job, str(error))
                        screen.ended(job, None, str(error))
                        continue
                    screen.started(job)
                wait([handle for process in running for handle in process.handles()], timeout=POLL_S)
                for process in [process for process in running if process.has_ended()]:
                    running.remove(process)
                    free_gpus += process.job.visible_gpus
                    results[process.job.number], run, problem = _finish(process)
                    screen.ended(process.job, run, problem)
                screen.redraw([process.job for process in running])
        except BaseException as error:
            _stop(running, signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            raise


def _finish(process: JobProcess) -> tuple[JobReturn, Run | None, str | None]:
    """Return the result of a job that has ended, its run, and the error."""
    job = process.job
    completed, value = process.end()
    run = read_run(job.directory)
    if completed:
        return completed_result(job, run.optimized if value is None and run else value), run, None
    problem = str(value if run is None else run.record.get("error") or value)
    record_end(job, "failed", problem)
    return failed_result(job, problem), run, problem


def _stop(running: list[JobProcess], number: signal.Signals) -> None:
    """Send all jobs a signal, kill those that do not end in time, and record that they were interrupted."""
    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # a second signal ends the wait
        for process in running:
            process.send_signal(number)
        deadline = time.monotonic() + JOB_GRACE_S
        while not all(process.has_ended() for process in running) and time.monotonic() < deadline:
            wait([handle for process in running for handle in process.handles()], timeout=POLL_S)
    with hold_signals():  # a job that still ran would be waited for when this process exits
        for process in running:
            process.end()
            record_end(process.job, "interrupted", number.name)
