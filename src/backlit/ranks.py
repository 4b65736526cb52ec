"""A run of several processes, its ranks: one directory for all of them, and none goes on when another one is gone.

On one machine the first process starts the others, by Lightning; several machines' are started by torchrun or srun.
"""

import contextlib
import functools
import logging
import os
import re
import select
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlit.record import end_record
from backlit.run import Run

if TYPE_CHECKING:
    from lightning import Trainer
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

log = logging.getLogger(__name__)

# Seconds that a process has to end by itself when another one has ended.
PATIENCE = 10

# Lives as long as the process: where torchrun keeps none, the first process's is the one that the others ask.
_store: Any = None


class RankError(Exception):
    """Another process of the run is gone, or does not answer."""


def is_launched() -> bool:
    """Tell whether the first process of a run has started this one."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and cluster() is None


def cluster() -> "ClusterEnvironment | None":
    """Return what has started this process and others with it, torchrun or srun; None if nothing has.

    Raises:
        RankError: If it has been told something that Lightning does not take.
    """
    if not {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS"} & set(os.environ):
        return None  # known without the imports
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    kinds: tuple[type[ClusterEnvironment], ...] = (TorchElasticEnvironment, SLURMEnvironment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that srun is here, but is not used
        try:
            found = [kind() for kind in kinds if kind.detect()]
        except RuntimeError as error:  # Lightning wants srun's --ntasks-per-node, say
            raise RankError(str(error)) from None
    return found[0] if found and found[0].world_size() > 1 else None


def shared(choose: Callable[[], Path], timeout: float) -> Path:
    """Return what `choose` returns in the first of the processes that torchrun or srun has started.

    Each of them would choose another directory, since their clocks differ.

    Args:
        choose: Is called in the first process only.
        timeout: Seconds that the others wait.

    Raises:
        RankError: If the first process does not answer.
    """
    global _store
    environment = cluster()
    if environment is None:
        return choose()
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

    rank = environment.global_rank()
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        _store = TCPStore(
            environment.main_address,
            environment.main_port,
            is_master=hosts,
            timeout=timedelta(seconds=timeout),
            wait_for_workers=False,
            multi_tenant=True,  # Lightning's own store takes the same port
        )
        key = f"backlit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/directory"
        if rank == 0:
            _store.set(key, str(choose().resolve()))
        return Path(_store.get(key).decode())
    except DistError as error:
        where = f"{environment.main_address}:{environment.main_port}"
        raise RankError(f"the first process does not answer at {where}: {_brief(error)}") from None


@contextlib.contextmanager
def together(trainer: "Trainer", run_dir: Path, timeout: float) -> Iterator[None]:
    """Let no process of a run outlive another, within this context.

    Args:
        trainer: The run's; it has not started other processes yet.
        run_dir: The run directory.
        timeout: Seconds that a process waits for the others, whatever it wants to do with them.

    Raises:
        RankError: If one of them has ended, or has not answered in time.
    """
    import torch
    from lightning.pytorch.strategies.launchers import subprocess_script

    if hasattr(trainer.strategy, "_timeout"):
        trainer.strategy._timeout = timedelta(seconds=timeout)
    # Lightning's own would kill this process too, without a word; nothing would be written down.
    over = threading.Event()
    watch: Any = functools.partial(_watch, run_dir, over)
    subprocess_script._launch_process_observer = watch  # type: ignore[attr-defined]
    # Held open, it means this process and no later one with its number.
    first = os.pidfd_open(os.getppid()) if is_launched() and hasattr(os, "pidfd_open") else None
    if is_launched() or cluster() is not None:
        threading.Thread(target=_end_with_parent, args=[run_dir, timeout, first], daemon=True).start()
    processes: list[subprocess.Popen[bytes]] = []
    patience = PATIENCE
    try:
        try:
            yield
        except BaseException:
            patience = 3  # without this process the others can do nothing but say so
            raise
        finally:
            if isinstance(trainer.strategy.launcher, subprocess_script._SubprocessScriptLauncher):
                processes = trainer.strategy.launcher.procs
    except Exception as error:
        if not _is_about_others(error):
            raise
        problem = _who_is_gone(processes, run_dir)
        if trainer.global_rank:
            time.sleep(0.5)  # the first process may just be ending
            problem = _end_for_first(run_dir)
            if first is not None:
                _end_hanging(first, run_dir)
        raise RankError(f"{problem or 'another process is gone or does not answer'} ({_brief(error)})") from error
    finally:
        over.set()
        if first is not None:
            os.close(first)
        _end(processes, patience)
        if processes:  # so that another run in this process starts like the first
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
                os.environ.pop(name, None)


def _end_for_first(run_dir: Path) -> str | None:
    """Write down, where the first process of a run is gone without having done so, that the run has failed."""
    run = Run.read(run_dir)
    if run is None or run.status == run.record["status"]:
        return None
    problem = f"the first process ({run.record['pid']}) was killed, or the system ended it"
    end_record(run_dir, "failed", f"RankError: {problem}", [])
    return problem


def _end_hanging(first: int, run_dir: Path) -> None:
    """Leave a process behind that ends the first one, and says so in its place, if it does not end by itself.

    It ends when one of the others has ended (`_watch`), unless it is stopped, or holds the interpreter.

    Args:
        first: A file descriptor of the process.
        run_dir: The run directory.
    """
    if os.fork():
        return
    try:
        os.setsid()
        if not select.select([first], [], [], PATIENCE + 5)[0]:
            signal.pidfd_send_signal(first, signal.SIGKILL)
            end_record(run_dir, "failed", "RankError: the first process did not answer and was ended", [])
    finally:
        os._exit(0)


def _is_about_others(error: Exception) -> bool:
    """Tell whether an exception comes from talking to the other processes."""
    from torch.distributed import DistError
    from torch.multiprocessing.spawn import ProcessException

    of_gloo = ("gloo", "pair closure")  # it has no exception of its own
    return isinstance(error, DistError | ProcessException) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in of_gloo)
    )


def _brief(error: BaseException) -> str:
    """Return the first sentence of a message, without the place in gloo's source that it comes from."""
    lines = re.sub(r"^\[[^]]*\] ", "", str(error).strip()).splitlines()
    # What a spawned process has raised comes with its traceback.
    told = [line for line in lines if line and not line[0].isspace()]
    return told[-1 if "Traceback" in str(error) else 0].partition(". This ")[0]


def _who_is_gone(processes: "list[subprocess.Popen[bytes]]", run_dir: Path) -> str | None:
    """Return which of the processes that this one has started has ended badly; None if none has."""
    deadline = time.monotonic() + 1  # its connections end a little before it does
    while processes and time.monotonic() < deadline and all(process.poll() is None for process in processes):
        time.sleep(0.05)
    for rank, process in enumerate(processes, start=1):
        if code := process.poll():
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            logs = [log for log in run_dir.glob(f"*_ddp_process_{rank}.log") if log.stat().st_size]
            return f"process {rank} {how}" + (f", its log is {logs[0]}" if logs else "")
    return None


def _watch(run_dir: Path, over: threading.Event, processes: "list[subprocess.Popen[bytes]]") -> None:
    """See to it, in a thread, that this process ends if one of the others does, even where it waits for it forever."""

    def watch() -> None:
        while not any(process.poll() for process in processes):
            if over.wait(0.5):
                return
        if over.wait(PATIENCE):  # as a rule this process notices by itself
            return
        problem = f"RankError: {_who_is_gone(processes, run_dir)}"
        log.error("failed: %s", problem)
        end_record(run_dir, "failed", problem, [])
        _end(processes, 0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-ranks").start()


def _end(processes: "list[subprocess.Popen[bytes]]", patience: float) -> None:
    """Wait so many seconds for processes to end, and end those that do not."""
    deadline = time.monotonic() + patience
    for process in processes:
        try:
            process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent(run_dir: Path, timeout: float, first: int | None) -> None:
    """Wait until what has started this process is gone, then end it; also if it does not let it begin.

    Args:
        run_dir: The run directory.
        timeout: Seconds that it may take until the processes are connected: torch waits longer for one that is stopped.
        first: A file descriptor of the first process, if that one has started this one.
    """
    import torch

    parent, deadline, is_connected = os.getppid(), time.monotonic() + timeout, False
    while os.getppid() == parent:
        time.sleep(0.5)
        is_connected = is_connected or torch.distributed.is_initialized()
        if first is not None and not is_connected and time.monotonic() > deadline:
            log.error("failed: the first process does not answer")
            _end_hanging(first, run_dir)
            os._exit(1)
    if not is_launched():  # by the first process: then talking to that one fails
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    _end_for_first(run_dir)
    os._exit(1)
