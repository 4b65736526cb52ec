"""Which engine a sweep's jobs run on."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backlit.errors import ConfigError
from backlit.sweeps.engine import Engine
from backlit.sweeps.process_engine import ProcessEngine
from backlit.sweeps.ray_engine import RayEngine
from backlit.sweeps.slurm import SlurmOptions
from backlit.sweeps.slurm_engine import SlurmEngine
from backlit.sweeps.sweep import Sweep

ENGINES = ("processes", "ray", "slurm")
# The keys that only some engines have, and what they are if nobody sets them.
_OWN_KEYS: dict[str, dict[str, Any]] = {
    "ray": {"ray_address": None},
    "slurm": {"partition": None, "time": None, "gres": None, "account": None, "qos": None, "options": [], "wait": True},
}


def choose_engine(
    name: str,
    sweep: Sweep,
    *,
    n_jobs: int | None = None,
    gpus_per_job: int | None = None,
    cpus_per_job: int | None = None,
    **own_keys: Any,
) -> Engine:
    """Return the engine that ``hydra.launcher`` describes.

    Args:
        name: One of `ENGINES`.
        sweep: What the jobs have in common.
        n_jobs: How many jobs run at a time; -1 is as many as fit; None is 1 on this machine and -1 elsewhere.
        gpus_per_job: Number of GPUs per job; None for as many as its ``trainer.devices`` requests.
        cpus_per_job: Number of CPU cores per job elsewhere; None for one for each of its processes.
        own_keys: Keys that only some engines have.

    Raises:
        ConfigError: If a key is out of its range.
    """
    problems = []
    if name not in ENGINES:
        problems.append(f"hydra.launcher.engine must be one of {', '.join(ENGINES)}, got {name}")
    if n_jobs is not None and n_jobs < 1 and n_jobs != -1:
        problems.append(f"hydra.launcher.n_jobs must be >= 1, or -1 for as many as fit, got {n_jobs}")
    for key, number in (("gpus_per_job", gpus_per_job), ("cpus_per_job", cpus_per_job)):
        if number is not None and number < 1:
            problems.append(f"hydra.launcher.{key} must be >= 1 or null, got {number}")
    own = {
        engine: {key: own_keys.get(key, default) for key, default in keys.items()} for engine, keys in _OWN_KEYS.items()
    }
    problems += _foreign_keys(name, own)
    if name == "processes" and cpus_per_job is not None:
        problems.append("hydra.launcher.cpus_per_job is for engine=slurm or ray; here the jobs share all cores")
    address = own["ray"]["ray_address"]
    if name == "ray" and not (address in (None, "auto") or re.fullmatch(r"\S+:\d+", str(address))):
        problems.append(f"hydra.launcher.ray_address must be HOST:PORT, auto or null, got {address}")
    slurm = dict(own["slurm"])
    waits = slurm.pop("wait")
    options = SlurmOptions(**slurm)
    if name == "slurm":
        problems += options.problems()
        if not waits and n_jobs not in (None, -1):
            problems.append(
                f"hydra.launcher.n_jobs must be -1 with wait=false: nobody would start the rest, got {n_jobs}"
            )
    if problems:
        raise ConfigError(problems)
    if name == "slurm":
        return SlurmEngine(sweep, n_jobs or -1, gpus_per_job, cpus_per_job, options, waits=waits)
    if name == "ray":
        return RayEngine(sweep, n_jobs or -1, gpus_per_job, cpus_per_job, address)
    return ProcessEngine(sweep, n_jobs or 1, gpus_per_job)


def _foreign_keys(name: str, own: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Return a line for each key that somebody has set, and that only another engine has."""
    return [
        f"hydra.launcher.{key} is for engine={engine}, got {value} with engine={name}"
        for engine, keys in own.items()
        if engine != name
        for key, value in keys.items()
        if value != _OWN_KEYS[engine][key]
    ]
