"""Which engine a sweep's jobs run on."""

from backlit.errors import ConfigError
from backlit.sweeps.engine import Engine
from backlit.sweeps.process_engine import ProcessEngine
from backlit.sweeps.sweep import Sweep

ENGINES = ("processes",)


def choose_engine(name: str, sweep: Sweep, *, n_jobs: int, gpus_per_job: int | None) -> Engine:
    """Return the engine that ``hydra.launcher`` describes.

    Args:
        name: One of `ENGINES`.
        sweep: What the jobs have in common.
        n_jobs: How many jobs run at a time; -1 is as many as fit.
        gpus_per_job: Number of GPUs per job; None for as many as its ``trainer.devices`` requests.

    Raises:
        ConfigError: If a key is out of its range.
    """
    problems = []
    if name not in ENGINES:
        problems.append(f"hydra.launcher.engine must be one of {', '.join(ENGINES)}, got {name}")
    if n_jobs < 1 and n_jobs != -1:
        problems.append(f"hydra.launcher.n_jobs must be >= 1, or -1 for as many as fit, got {n_jobs}")
    if gpus_per_job is not None and gpus_per_job < 1:
        problems.append(f"hydra.launcher.gpus_per_job must be >= 1 or null, got {gpus_per_job}")
    if problems:
        raise ConfigError(problems)
    return ProcessEngine(sweep.hydra_context, sweep.task_function, n_jobs, gpus_per_job)
