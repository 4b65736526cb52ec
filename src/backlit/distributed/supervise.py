"""No process of a run outlives another: who notices that a rank has died or hangs, and what is recorded then."""

import contextlib
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from backlit.distributed.environment import LIGHTNING_VARIABLES, is_lightning_child, launcher_environment
from backlit.errors import RankError
from backlit.runs.record import finish_record
from backlit.runs.run import Run
from backlit.text import first_sentence, shell_path

log = logging.getLogger(__name__)

Processes = list[subprocess.Popen[bytes]]

# Seconds that a process has to end by itself when another one has ended; never more than the run's process_timeout.
RANK_GRACE_S = 10.0
# Seconds that the others have when the first process has failed: without it they can do nothing but report that.
FOLLOWERS_GRACE_S = 3.0
POLL_INTERVAL_S = 0.2


@contextlib.contextmanager
def supervise_ranks(
    run_dir: Path, timeout_s: float, *, rank: int, children: Callable[[], Processes]
) -> Iterator[Callable[[Processes], None]]:
    """Let no process of a run outlive another, within this context.

    Args:
        run_dir: The run directory.
        timeout_s: Seconds that a process waits for the others, whatever it wants to do with them.
        rank: This process's.
        children: Returns the processes that this one has started.

    Yields:
        A function that watches over started processes, in a thread.

    Raises:
        RankError: If one of them has ended, or has not answered in time.
    """
    grace_s = min(RANK_GRACE_S, timeout_s)
    # Held open, it means this process and no later one with its number.
    first = os.pidfd_open(os.getppid()) if is_lightning_child() and hasattr(os, "pidfd_open") else None
    if is_lightning_child() or launcher_environment() is not None:
        arguments = (run_dir, timeout_s, grace_s, first)
        threading.Thread(target=_end_with_parent, args=arguments, daemon=True).start()
    is_over, followers_grace_s = threading.Event(), grace_s
    try:
        yield lambda processes: _watch(run_dir, is_over, processes, grace_s)
    except BaseException as error:
        followers_grace_s = min(FOLLOWERS_GRACE_S, grace_s)
        if not (isinstance(error, Exception) and _is_about_other_ranks(error)):
            raise
        problem = _find_ended(children(), run_dir)
        if rank:
            time.sleep(0.5)  # the first process may just be ending
            problem = _record_end_of_first(run_dir)
            if first is not None:
                _end_hanging(first, run_dir, grace_s)
        reason = problem or "another process has ended or does not answer"
        raise RankError(f"{reason} ({first_sentence(error)})") from error
    finally:
        is_over.set()
        if first is not None:
            os.close(first)
        _end_children(children(), followers_grace_s)


def _end_children(processes: Processes, grace_s: float) -> None:
    """End the started processes, and let another run in this process start like the first."""
    if not processes:
        return
    import torch

    _wait_or_kill(processes, grace_s)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in LIGHTNING_VARIABLES:
        os.environ.pop(name, None)


def _wait_or_kill(processes: Processes, grace_s: float) -> None:
    """Wait so many seconds for processes to end, and kill those that do not."""
    deadline = time.monotonic() + grace_s
    for process in processes:
        try:
            process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_about_other_ranks(error: Exception) -> bool:
    """Return whether an exception comes from talking to the other processes."""
    from torch.distributed import DistError

    gloo_words = ("gloo", "pair closure")  # it has no exception of its own
    is_gloo = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in gloo_words)
    return isinstance(error, DistError) or is_gloo


def _find_ended(processes: Processes, run_dir: Path) -> str | None:
    """Return which of the started processes has ended badly, and how; None if none has."""
    deadline = time.monotonic() + 1  # its connections end a little before it does
    while processes and time.monotonic() < deadline and all(process.poll() is None for process in processes):
        time.sleep(0.05)
    for rank, process in enumerate(processes, start=1):
        if code := process.poll():
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            logs = [log for log in run_dir.glob(f"*_ddp_process_{rank}.log") if log.stat().st_size]
            return f"process {rank} {how}" + (f", its log is {logs[0]}" if logs else "")
    return None


def _watch(run_dir: Path, is_over: threading.Event, processes: Processes, grace_s: float) -> None:
    """End this process, from a thread, if one of the others ends, even where it waits for it forever."""

    def watch() -> None:
        while not any(process.poll() for process in processes):
            if is_over.wait(POLL_INTERVAL_S):
                return
        if is_over.wait(grace_s):  # as a rule this process notices by itself
            return
        if any(process.poll() in (-signal.SIGINT, 128 + signal.SIGINT) for process in processes):
            # A terminal sends Ctrl-C to this process, too, but torch waits for the others where Python cannot take it.
            code, status, problem = 128 + signal.SIGINT, "interrupted", "SIGINT"
            log.warning("interrupted; the run directory is %s", shell_path(run_dir))
        else:
            code, status, problem = 1, "failed", f"RankError: {_find_ended(processes, run_dir)}"
            log.error("failed: %s", problem)
        finish_record(run_dir, status, problem, [])
        _wait_or_kill(processes, 0)
        os._exit(code)

    threading.Thread(target=watch, daemon=True, name="watch-ranks").start()


def _end_with_parent(run_dir: Path, timeout_s: float, grace_s: float, first: int | None) -> None:
    """Wait until what has started this process has ended, then end it; also if it does not let it begin.

    Args:
        run_dir: The run directory.
        timeout_s: Seconds until the processes have to be connected: torch waits without limit for a stopped one.
        grace_s: Seconds that this process has to end by itself.
        first: A file descriptor of the first process, if that one has started this one.
    """
    import torch

    parent, deadline, is_connected = os.getppid(), time.monotonic() + timeout_s, False
    while os.getppid() == parent:
        time.sleep(POLL_INTERVAL_S)
        is_connected = is_connected or torch.distributed.is_initialized()
        if first is not None and not is_connected and time.monotonic() > deadline:
            log.error("failed: the first process does not answer")
            _end_hanging(first, run_dir, grace_s)
            os._exit(1)
    if not is_lightning_child():  # a child of the first process fails when it talks to that one
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    _record_end_of_first(run_dir)
    os._exit(1)


def _record_end_of_first(run_dir: Path) -> str | None:
    """Record that the run has failed, where its first process has ended without doing so; return the reason."""
    run = Run.read(run_dir)
    if run is None or run.attempt["status"] != "running" or run.is_running:
        return None
    problem = f"the first process ({run.attempt.get('pid')}) was killed, or the system ended it"
    finish_record(run_dir, "failed", f"RankError: {problem}", [])
    return problem


def _end_hanging(first: int, run_dir: Path, grace_s: float) -> None:
    """Leave a process behind that ends the first one, and records it in its place, if it does not end by itself.

    The first process ends when one of the others has ended (`_watch`), unless it is stopped, or holds the interpreter.

    Args:
        first: A file descriptor of the process.
        run_dir: The run directory.
        grace_s: Seconds that it has to end by itself, and half as many more.
    """
    if os.fork():
        return
    try:
        os.setsid()
        if not select.select([first], [], [], 1.5 * grace_s)[0]:
            signal.pidfd_send_signal(first, signal.SIGKILL)
            finish_record(run_dir, "failed", "RankError: the first process did not answer and was ended", [])
    finally:
        os._exit(0)
