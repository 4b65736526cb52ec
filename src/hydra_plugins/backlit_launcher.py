"""Where Hydra finds backlit's launcher; it imports this at every start, so that nothing heavy may be imported here."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherConfig:
    """The keys of ``hydra.launcher``, see `backlit.sweeps.launch.launch`."""

    _target_: str = "hydra_plugins.backlit_launcher.BacklitLauncher"
    n_jobs: int = 1
    gpus_per_job: int | None = None


class BacklitLauncher(Launcher):
    """Runs every job of a sweep as a process of its own.

    Args:
        n_jobs: How many jobs run side by side; -1 is as many as fit.
        gpus_per_job: How many GPUs a job gets; None for what its ``trainer.devices`` asks for.
    """

    def __init__(self, n_jobs: int = 1, gpus_per_job: int | None = None) -> None:
        self.n_jobs = n_jobs
        self.gpus_per_job = gpus_per_job

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs.

        Raises:
            backlit.errors.ConfigError: If `n_jobs` or `gpus_per_job` is out of its range.
        """
        from backlit.errors import ConfigError

        if self.n_jobs < 1 and self.n_jobs != -1:
            raise ConfigError([f"hydra.launcher.n_jobs must be >= 1, or -1 for as many as fit, got {self.n_jobs}"])
        if self.gpus_per_job is not None and self.gpus_per_job < 1:
            raise ConfigError([f"hydra.launcher.gpus_per_job must be >= 1 or null, got {self.gpus_per_job}"])
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return their results in their order."""
        from backlit.sweeps.launch import launch

        return launch(
            self.config,
            self.hydra_context,
            self.task_function,
            [list(overrides) for overrides in job_overrides],
            first_number=initial_job_idx,
            n_jobs=self.n_jobs,
            gpus_per_job=self.gpus_per_job,
        )


ConfigStore.instance().store(group="hydra/launcher", name="backlit", node=LauncherConfig, provider="backlit")
