"""Where the processes of a run meet: rank 0 chooses plan and directory, the others ask; nobody else is listened to.

torch trusts whoever connects, so processes of one machine use the loopback interface only.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backlit.distributed.environment import is_on_one_machine, launcher_environment
from backlit.errors import RankError
from backlit.text import first_sentence

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

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


def share(name: str, choose: Callable[[], str], timeout_s: float, store: Any = None) -> tuple[str, Any]:
    """Return what `choose` returns in the first of the processes that torchrun or srun has started.

    Each of them would choose something else, since their clocks differ, and since the first one may have begun.

    Args:
        name: What is chosen.
        choose: Is called in the first process only.
        timeout_s: Seconds that the others wait.
        store: What an earlier call has returned with its choice.

    Returns:
        The choice, and an object that the first process must keep as long as others may ask.

    Raises:
        RankError: If the first process does not answer.
    """
    environment = launcher_environment()
    if environment is None:
        return choose(), None
    from torch.distributed import DistError

    try:
        store = store or _open_store(environment, timeout_s)
        store.set_timeout(timedelta(seconds=timeout_s))
        key = f"backlit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{name}"
        if environment.global_rank() == 0:
            store.set(key, choose())
        return store.get(key).decode(), store
    except DistError as error:
        where = f"{environment.main_address}:{environment.main_port}"
        raise RankError(f"the first process does not answer at {where}: {first_sentence(error)}") from None


def _open_store(environment: "ClusterEnvironment", timeout_s: float) -> Any:
    """Return the store of a run that torchrun or srun has started."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # torchrun's agent has a store already; under srun rank 0 opens one.
    is_master = environment.global_rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    listener: dict[str, Any] = {}
    if is_on_one_machine():
        _use_loopback_for_gloo()
        os.environ.setdefault("MASTER_ADDR", _LOOPBACK)
        if is_master and environment.main_address == _LOOPBACK:
            listener["master_listen_fd"] = _listen(environment.main_port).detach()
    return TCPStore(
        environment.main_address,
        environment.main_port,
        is_master=is_master,
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
        multi_tenant=True,  # Lightning's own store takes the same port
        **listener,
    )
