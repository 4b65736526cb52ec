"""Runs jobs in parallel: each starts when its engine has room, and none survives an interrupt."""

import contextlib
import signal
import time
from multiprocessing.connection import wait
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from backlit.errors import JobError, JobsLeftError
from backlit.runs.run import Run
from backlit.sweeps.attempts import prepare_attempt, read_run
from backlit.sweeps.engine import Engine, RunningJob
from backlit.sweeps.fork import JOB_GRACE_S
from backlit.sweeps.job import Job
from backlit.sweeps.job_results import completed_result, failed_result, record_end, record_failed_start, record_pruned
from backlit.sweeps.job_source import JobSource
from backlit.sweeps.screen import Screen
from backlit.sweeps.sweep import Sweep
from backlit.training.signals import hold_signals, sigterm_ends_in_order

# How long the launcher waits for events of its jobs before it polls them and redraws the screen.
POLL_S = 0.2


def run_jobs(sweep: Sweep, engine: Engine, source: JobSource, results: dict[int, JobReturn]) -> None:
    """Run jobs, and add their results to `results` by number.

    Any exception meanwhile, including Ctrl-C and SIGTERM, ends the running jobs, unless the engine leaves them running.

    Args:
        sweep: What the jobs have in common.
        engine: Starts the jobs.
        source: Yields the jobs, in starting order.
        results: The results of jobs that were completed before.

    Raises:
        JobsLeftError: If the engine does not wait for the jobs, and all have started.
    """
    screen = Screen(len(results), is_queued=engine.is_elsewhere)
    runner = _JobRunner(sweep, engine, source, screen, results)
    with contextlib.closing(engine), sigterm_ends_in_order(), screen:
        try:
            runner.run()
        except BaseException as error:
            if not engine.leave(runner.running):
                runner.stop(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            raise


class _JobRunner:
    """The jobs that run, and what is done with them; for the arguments see `run_jobs`."""

    def __init__(
        self, sweep: Sweep, engine: Engine, source: JobSource, screen: Screen, results: dict[int, JobReturn]
    ) -> None:
        self.sweep, self.engine, self.source, self.screen, self.results = sweep, engine, source, screen, results
        self.next_job: Job | None = None  # waits until there is room
        self.running: list[RunningJob] = []
        self.pruned: dict[int, tuple[str, float]] = {}  # jobs that are to end: number to reason, and when it is killed

    def run(self) -> None:
        """Run all jobs of the source."""
        while True:
            self._start_jobs()
            handles = self._handles()
            if not (handles or self.running or self.next_job or self.source.remaining()):
                return
            if self.running and not (self.engine.waits or self.next_job or self.source.remaining()):
                raise JobsLeftError(int(any(result.status == JobStatus.FAILED for result in self.results.values())))
            wait(handles, timeout=POLL_S) if handles else time.sleep(POLL_S)
            for process in [process for process in self.running if process.has_ended()]:
                self._finish(process)
            self._prune()
            self.screen.redraw([process.job for process in self.running], self.source.remaining())

    def _handles(self) -> list[Any]:
        return [*self.source.handles(), *(handle for process in self.running for handle in process.handles())]

    def _start_jobs(self) -> None:
        """Start jobs as long as the engine has room and the source has jobs."""
        while self.engine.has_room(self.next_job):
            job, self.next_job = self.next_job or self.source.next_job(), None
            if job is None:
                return
            if not self.engine.has_room(job):  # it needs more than others
                self.next_job = job
                return
            try:
                with hold_signals():
                    if not self.engine.has_job(job):
                        prepare_attempt(job)
                    self.running.append(self.engine.start(job, self.sweep.arguments(job)))
            except OSError as error:
                record_failed_start(job, str(error))
                self._ended(job, None, str(error), failed_result(self.sweep, job, str(error)))
            else:
                self.screen.started(job)

    def _finish(self, process: RunningJob) -> None:
        """Record the end of a job."""
        self.running.remove(process)
        job = process.job
        completed, value = process.end()
        reason, _ = self.pruned.pop(job.number, ("", 0.0))
        if reason and not completed:
            record_pruned(job, reason)
            self._ended(job, read_run(job.directory), None, failed_result(self.sweep, job, reason))
            return
        run = read_run(job.directory)
        if completed:
            self._ended(
                job, run, None, completed_result(self.sweep, job, run.optimized if value is None and run else value)
            )
            return
        problem = str(value if run is None else run.record.get("error") or value)
        record_end(job, "failed", problem)
        self._ended(job, read_run(job.directory), problem, failed_result(self.sweep, job, problem))

    def _ended(self, job: Job, run: Run | None, problem: str | None, result: JobReturn) -> None:
        self.results[job.number] = result
        self.source.ended(job, run)
        self.screen.ended(job, run, problem)

    def _prune(self) -> None:
        """Stop the jobs that their source does not want any more; kill those that do not end."""
        wanted = [process.job for process in self.running if process.job.number not in self.pruned]
        losers = self.source.find_losers(wanted)
        for process in self.running:
            number = process.job.number
            if number in losers:
                process.send_signal(signal.SIGTERM)  # it saves its state, as for anybody who stops it
                self.pruned[number] = (losers[number], time.monotonic() + JOB_GRACE_S)
            elif number in self.pruned and time.monotonic() > self.pruned[number][1]:
                process.send_signal(signal.SIGKILL)
                self.pruned[number] = (self.pruned[number][0], time.monotonic() + JOB_GRACE_S)

    def stop(self, number: signal.Signals) -> None:
        """Send all jobs a signal, kill those that do not end in time, and record that they were interrupted."""
        # A second signal ends the wait, and so does an engine that is gone.
        with contextlib.suppress(KeyboardInterrupt, SystemExit, JobError):
            for process in self.running:
                process.send_signal(number)
            deadline = time.monotonic() + JOB_GRACE_S
            while not all(process.has_ended() for process in self.running) and time.monotonic() < deadline:
                wait(handles, timeout=POLL_S) if (handles := self._handles()) else time.sleep(POLL_S)
        with hold_signals():  # a job that still ran would be waited for when this process exits
            for process in self.running:
                process.end()
                record_end(process.job, "interrupted", number.name)
