"""What the jobs of a sweep have in common."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from backlit.sweeps.job import Job
from backlit.sweeps.templates import Templates

Check = Callable[[DictConfig], list[str]]


@dataclass(frozen=True)
class Sweep:
    """What the jobs of a sweep have in common.

    A task function may have an attribute ``check(cfg) -> list[str]``, which returns the problems of a config, one line
    per problem; then all jobs are checked before the first one starts.

    Args:
        config: The config of the sweep as a whole, with Hydra's part.
        hydra_context: Composes the jobs' configs.
        task_function: The function that a job calls with its config.
    """

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    @property
    def directory(self) -> Path:
        """Return the directory in which each job has one of its own."""
        return Path(self.config.hydra.sweep.dir)

    @functools.cached_property
    def templates(self) -> Templates:
        """Return what composes the jobs' configs."""
        return Templates(self.config, self.hydra_context.config_loader)

    @property
    def check(self) -> Check | None:
        """Return the task function's check of a job's config, if it has one."""
        return getattr(self.task_function, "check", None)

    def arguments(self, job: Job) -> list[str]:
        """Return the command-line arguments that start a job as a single run, without its directory."""
        overrides = OmegaConf.to_container(self.config.hydra.overrides, resolve=False)
        assert isinstance(overrides, dict)
        return job.arguments(overrides["hydra"], overrides["task"])
