"""Where Hydra finds backlit's sweepers; it imports this at every start, so that nothing heavy may be imported here."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class GridConfig:
    """The keys of ``hydra.sweeper`` for a grid."""

    _target_: str = "hydra_plugins.backlit_sweepers.GridSweeper"
    params: dict[str, str] | None = None
    zoom: int = 0


@dataclass
class SearchConfig:
    """The keys of ``hydra.sweeper`` for a search, see `backlit.sweeps.search.search`."""

    _target_: str = "hydra_plugins.backlit_sweepers.SearchSweeper"
    n_trials: int = 20
    timeout: float | None = None
    sampler: str = "tpe"
    pruner: str = "asha"
    seed: int | None = None
    direction: str = "minimize"
    params: dict[str, Any] = field(default_factory=dict)


class GridSweeper(Sweeper):
    """Runs the job of each combination of values.

    Hydra's own sweeper composes every job before the launcher does it again.

    Args:
        params: Keys to their values, in Hydra's grammar; what is typed replaces them.
        zoom: How often two more values of each number are tried: beyond the edge if the best is at one, else beside it.
    """

    def __init__(self, params: Mapping[str, str] | None = None, zoom: int = 0) -> None:
        self.params = {} if params is None else dict(params)
        self.zoom = zoom

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs, and create the launcher."""
        self.loader = hydra_context.config_loader
        self.sweep_dir, self.sweep_config = config.hydra.sweep.dir, config
        self.job_launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs and return their results.

        Raises:
            backlit.errors.ConfigError: If a key has an interval, which has no list of values.
            backlit.errors.JobError: If a job has failed, after all have ended.
        """
        from backlit.errors import ConfigError

        parser = OverridesParser.create(config_loader=self.loader)
        typed = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        values: dict[str, list[str]] = {}  # the last override of a key counts
        for override in parser.parse_overrides(typed):
            key = override.get_key_element()
            if not override.is_sweep_override():
                values[key] = [str(override.input_line)]
            elif override.is_discrete_sweep():
                values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                raise ConfigError([f"{override.input_line}: a grid has no intervals; for a search add sweep=optuna"])
        OmegaConf.save(self.sweep_config, f"{self.sweep_dir}/multirun.yaml")
        results = list(self._launch(values, 0))
        for _ in range(self.zoom):
            from backlit.sweeps.zoom import next_values

            if not (more := next_values(Path(self.sweep_dir), values)):
                break
            values |= more
            results += self._launch(values, len(results))
        for result in results:
            _ = result.return_value  # raises the error of a job that has failed
        return [results]

    def _launch(self, values: Mapping[str, list[str]], first_number: int) -> Sequence[JobReturn]:
        jobs = [list(job) for job in itertools.product(*values.values())]
        results: Sequence[JobReturn] = self.job_launcher.launch(jobs, initial_job_idx=first_number)
        return results


class SearchSweeper(Sweeper):
    """Searches for the best values by Optuna.

    Args:
        settings: The keys of `SearchConfig`.
    """

    def __init__(self, **settings: Any) -> None:
        del settings["params"]  # read as it is written, from the config
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `sweep` needs, and create the launcher."""
        self.sweep_config = config
        self.job_launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search.

        Raises:
            backlit.errors.ConfigError: If something is wrong with it; then nothing has started.
        """
        from backlit.sweeps.search import search

        search(self.job_launcher.sweep, self.job_launcher.engine, arguments, **self.settings)


for _name, _node in (("grid", GridConfig), ("search", SearchConfig)):
    ConfigStore.instance().store(group="hydra/sweeper", name=_name, node=_node, provider="backlit")
