"""Where the processes of a run meet: rank 0 chooses the run directory, the others ask; nobody else is listened to.

torch trusts whoever connects, so processes of one machine use the loopback interface only.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from backlit.distributed.environment import is_on_one_machine, launcher_environment
from backlit.errors import RankError
from backlit.text import first_sentence

_LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def local_store() -> Iterator[None]:
    """Keep the store by which the processes that Lightning starts on this machine find each other, within this context.

    torch's own would listen on all interfaces. The process group takes this one, as it has the port that
    ``MASTER_PORT`` names; the other processes inherit the variables.

    Raises:
        RankError: If ``MASTER_PORT`` is set and cannot be used.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    _use_loopback_for_gloo()
    listener = _listen(int(os.environ.get("MASTER_PORT", 0)))
    port = listener.getsockname()[1]
    os.environ |= {"MASTER_ADDR": _LOOPBACK, "MASTER_PORT": str(port)}
    more: dict[str, Any] = {"is_master": True, "wait_for_workers": False, "multi_tenant": True}
    store = TCPStore(_LOOPBACK, port, master_listen_fd=listener.detach(), **more)
    yield
    del store


def _use_loopback_for_gloo() -> None:
    """Let gloo listen on the loopback interface, unless the user has chosen another."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_LOOPBACK, port))
    except OSError as error:
        raise RankError(f"MASTER_PORT must be a free port, got {port}: {error.strerror}") from None


def share_directory(choose: Callable[[], Path], timeout_s: float) -> tuple[Path, Any]:
    """Return the directory that `choose` returns in the first of the processes that torchrun or srun has started.

    Each of them would choose another one, since their clocks differ.

    Args:
        choose: Is called in the first process only.
        timeout_s: Seconds that the others wait.

    Returns:
        The directory, and an object that the first process must keep as long as others may ask.

    Raises:
        RankError: If the first process does not answer.
    """
    environment = launcher_environment()
    if environment is None:
        return choose(), None
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

    rank = environment.global_rank()
    # torchrun's agent has a store already; under srun rank 0 opens one.
    is_master = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    listener: dict[str, Any] = {}
    if is_on_one_machine():
        _use_loopback_for_gloo()
        os.environ.setdefault("MASTER_ADDR", _LOOPBACK)
        if is_master and environment.main_address == _LOOPBACK:
            listener["master_listen_fd"] = _listen(environment.main_port).detach()
    try:
        store = TCPStore(
            environment.main_address,
            environment.main_port,
            is_master=is_master,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            multi_tenant=True,  # Lightning's own store takes the same port
            **listener,
        )
        key = f"backlit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/directory"
        if rank == 0:
            store.set(key, str(choose().resolve()))
        return Path(store.get(key).decode()), store
    except DistError as error:
        where = f"{environment.main_address}:{environment.main_port}"
        raise RankError(f"the first process does not answer at {where}: {first_sentence(error)}") from None
