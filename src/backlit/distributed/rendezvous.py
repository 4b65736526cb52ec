"""One plan and one run directory for all processes: rank 0 chooses them, the others ask."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from backlit.distributed.environment import launcher_environment
from backlit.errors import RankError
from backlit.text import first_sentence


def share(name: str, choose: Callable[[], str], timeout_s: float) -> tuple[str, Any]:
    """Return what `choose` returns in the first of the processes that torchrun or srun has started.

    Each of them would choose something else, since their clocks differ, and since the first one may have begun.

    Args:
        name: What is chosen.
        choose: Is called in the first process only.
        timeout_s: Seconds that the others wait.

    Returns:
        The choice, and an object that the first process must keep as long as others may ask.

    Raises:
        RankError: If the first process does not answer.
    """
    environment = launcher_environment()
    if environment is None:
        return choose(), None
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

    rank = environment.global_rank()
    try:
        store = TCPStore(
            environment.main_address,
            environment.main_port,
            # torchrun's agent has a store already; under srun rank 0 opens one.
            is_master=rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            multi_tenant=True,  # Lightning's own store takes the same port
        )
        key = f"backlit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{name}"
        if rank == 0:
            store.set(key, choose())
        return store.get(key).decode(), store
    except DistError as error:
        where = f"{environment.main_address}:{environment.main_port}"
        raise RankError(f"the first process does not answer at {where}: {first_sentence(error)}") from None
