"""Where Hydra finds backlit's launcher; it imports this at every start, so that nothing heavy may be imported here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherConfig:
    """The keys of ``hydra.launcher``, see `backlit.sweeps.choose_engine` and ``conf/hydra/launcher``."""

    _target_: str = "hydra_plugins.backlit_launcher.BacklitLauncher"
    engine: str = "processes"
    n_jobs: int | None = None
    gpus_per_job: int | None = None
    cpus_per_job: int | None = None
    ray_address: Any = None
    partition: str | None = None
    time: Any = None
    gres: str | None = None
    account: str | None = None
    qos: str | None = None
    options: list[str] = field(default_factory=list)
    wait: bool = True


class BacklitLauncher(Launcher):
    """Runs every job of a sweep as a run of its own.

    Args:
        engine: Where the jobs run.
        settings: The other keys of `LauncherConfig`.
    """

    def __init__(self, engine: str = "processes", **settings: Any) -> None:
        self.engine_name = engine
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the engine.

        Raises:
            backlit.errors.ConfigError: If a key of the launcher is out of its range.
        """
        from backlit.sweeps.choose_engine import choose_engine
        from backlit.sweeps.sweep import Sweep

        self.sweep = Sweep(config, hydra_context, task_function)
        self.engine = choose_engine(self.engine_name, self.sweep, **self.settings)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return their results in their order."""
        from backlit.sweeps.launch import launch

        return launch(self.sweep, self.engine, [list(overrides) for overrides in job_overrides], initial_job_idx)


ConfigStore.instance().store(group="hydra/launcher", name="backlit", node=LauncherConfig, provider="backlit")
