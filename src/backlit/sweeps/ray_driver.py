"""The process that talks to Ray for a launcher: Ray's threads, its output and its imports stay here.

``python -m backlit.sweeps.ray_driver HANDLE ADDRESS CPUS``: HANDLE is that of the connection to the launcher; ADDRESS
is empty for a Ray of its own, which has so many CPUS. The launcher sends ``(action, number of a job, ...)``, see
`_Driver`, and receives

- ``("machines", [(CPUs, GPUs), ...])``: first, and whenever machines come or go;
- ``("failed", reason)`` instead, if there is no Ray;
- ``("started", number)``, ``("ended", number, problem)`` and ``("lost", number, reason)`` of jobs: lost is one whose
  machine, or whose actor, is gone.

When the launcher is gone, the jobs get SIGTERM, and this process ends with them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import ray

from backlit.sweeps.fork import JOB_GRACE_S, POLL_S

_untyped_ray: Any = ray
_OBJECT_STORE_BYTES = 100 * 2**20  # nothing is stored in it; Ray would take a third of the memory


class JobActor:
    """Runs the command of a job where Ray has placed it; Ray sends this class there by its value."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False

    def ready(self) -> None:
        """Return as soon as the actor has its place."""

    def run(self, command: list[str], log_file: str, directory: str, environment: dict[str, str]) -> None:
        """Run a command in a session of its own, with the GPUs that Ray has given this actor.

        Raises:
            OSError: If it cannot be started: the directory or the program is not there.
        """
        # Without a GPU of its own a job sees none.
        own = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "") if ray.get_gpu_ids() else ""}
        within = [command[0], "-P", "-m", "backlit.sweeps.ray_job", str(os.getpid())]
        with self._lock:
            if self._is_cancelled:
                return
            with open(log_file, "ab") as output:
                self._process = subprocess.Popen(
                    [*within, *command],
                    cwd=directory,
                    env=environment | own,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        raylet = os.getppid()
        while self._process.poll() is None:
            time.sleep(0.1)
            if os.getppid() != raylet:
                os._exit(1)  # Ray has given this machine up, and an actor would stay: its job goes on elsewhere
        self.send_signal(signal.SIGKILL)  # what has outlived the command

    def send_signal(self, number: int) -> None:
        """Send a signal to all processes of the job; a job that has not begun never begins."""
        with self._lock:
            self._is_cancelled = True
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)


class _Placed:
    """A job that Ray has, or will give, a place.

    Args:
        actor: Its actor.
        ready: Ray's reference for that the actor has its place.
        end: Ray's reference for the end of the command.
    """

    def __init__(self, actor: Any, ready: Any, end: Any) -> None:
        self.actor, self.ready, self.end = actor, ready, end
        self.is_started = False


class _Driver:
    """Does what the launcher asks for, and reports what happens.

    Args:
        connection: To the launcher.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.placed: dict[int, _Placed] = {}
        self._machines: list[tuple[float, float]] = []

    def run(self) -> None:
        """Serve the launcher until it is gone."""
        looked = 0.0
        try:
            while True:
                if self.connection.poll(POLL_S):
                    action, number, *rest = self.connection.recv()
                    getattr(self, action)(number, *rest)
                if time.monotonic() - looked > 2:
                    self.report_machines()
                    looked = time.monotonic()
                self._report_jobs()
        except (EOFError, OSError):  # the launcher is gone
            pass
        self._end_jobs()

    def report_machines(self) -> None:
        """Send what each machine has, if that has changed."""
        resources = [node["Resources"] for node in _untyped_ray.nodes() if node["Alive"]]
        machines = sorted((found.get("CPU", 0.0), found.get("GPU", 0.0)) for found in resources)
        if machines != self._machines:
            self._machines = machines
            self.connection.send(("machines", machines))

    def start(self, number: int, cpus: int, gpus: int, *command: Any) -> None:
        """Let Ray start a job as soon as a machine has room for it.

        Args:
            number: The job.
            cpus: Its CPUs.
            gpus: Its GPUs.
            command: The arguments of `JobActor.run`.
        """
        # One thread runs the command, others send it signals.
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_concurrency": 4, "max_restarts": 0}
        actor = _untyped_ray.remote(JobActor).options(**options).remote()
        self.placed[number] = _Placed(actor, actor.ready.remote(), actor.run.remote(*command))

    def send_signal(self, number: int, signal_number: int) -> None:
        """Send a signal to a job; one that still waits for a place ends."""
        placed = self.placed.get(number)
        if placed is None:
            return
        if placed.is_started:
            placed.actor.send_signal.remote(signal_number)
        else:
            self.end(number)
            self.connection.send(("ended", number, None))

    def end(self, number: int) -> None:
        """Give the place of a job back, and end what is left of it."""
        if (placed := self.placed.pop(number, None)) is not None:
            ray.kill(placed.actor)

    def _report_jobs(self) -> None:
        for number, placed in list(self.placed.items()):
            if not placed.is_started and ray.wait([placed.ready], timeout=0)[0]:
                placed.is_started = True
                self.connection.send(("started", number))
            if not ray.wait([placed.end], timeout=0)[0]:
                continue
            event: tuple[Any, ...] = ("ended", number, None)
            try:
                ray.get(placed.end)
            except ray.exceptions.RayTaskError as error:
                event = ("ended", number, f"{error.cause}")
            except ray.exceptions.RayError as error:
                event = ("lost", number, first_line(error))
            self.end(number)
            self.connection.send(event)

    def _end_jobs(self) -> None:
        """Let the jobs save their state, as when a launcher on one machine is gone."""
        for placed in self.placed.values():
            if placed.is_started:
                placed.actor.send_signal.remote(int(signal.SIGTERM))
        ends = [placed.end for placed in self.placed.values() if placed.is_started]
        if ends:
            ray.wait(ends, num_returns=len(ends), timeout=JOB_GRACE_S)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def main() -> None:
    """Serve a launcher."""
    connection = Connection(int(sys.argv[1]))
    address, cpus = sys.argv[2], int(sys.argv[3])
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    own_files = None
    if not address:
        own_files = tempfile.mkdtemp(prefix="backlit-ray-", dir="/tmp")  # Ray's sockets need a short path
        options |= {
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_temp_dir": own_files,
        }
    try:
        ray.init(address=address or "local", **options)
        driver = _Driver(connection)
        driver.report_machines()
        driver.run()
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send(("failed", first_line(error)))
    finally:
        ray.shutdown()
        if own_files is not None:
            shutil.rmtree(own_files, ignore_errors=True)


if __name__ == "__main__":
    main()
