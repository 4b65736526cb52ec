"""Comet: an experiment on its server, or in a file that is uploaded later."""

import contextlib
import importlib.util
import logging
import os
import random
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from backlit.arguments import Text, check_arguments
from backlit.loggers.server import reach
from backlit.text import flatten, shell_path

if TYPE_CHECKING:
    from comet_ml import CometExperiment
    from PIL.Image import Image

log = logging.getLogger(__name__)

_SERVER = "https://www.comet.com"
# What Comet would collect by itself: arguments, code, git's state, the screen, this machine.
_NOT_COLLECTED = (
    *("log_code", "log_graph", "log_git_metadata", "log_git_patch", "log_env_details", "parse_args"),
    *("auto_output_logging", "auto_param_logging", "auto_metric_logging", "auto_log_co2"),
)


class CometLogger(loggers.Logger):
    """Writes a run to Comet: hyperparameters, metrics, pictures, and how it ended.

    Lightning's makes its experiment as soon as it is built, by a command that is rejected too, and by the check of a
    sweep; without a network it waits for half a minute. It takes no pictures and does not end.

    Args:
        project: The project, which is made if there is none of this name.
        workspace: The user or team that it belongs to; None for the default of the account.
        name: The experiment's name; None for one that Comet chooses.
        group: What runs that belong together have in common, recorded under ``group``; None if nothing.
        tags: Tags of the experiment.
        offline: Whether to send nothing and write a file, ``<key>-<some letters>.zip``, when the run ends.
        save_dir: The directory of such files, which is made.
        experiment_key: The experiment to continue; None for a new one.

    Raises:
        ModuleNotFoundError: If Comet is not installed.
        ValueError: If `experiment_key` is none, or if there is no API key, or nothing answers.
    """

    def __init__(
        self,
        project: Text,
        workspace: Text | None = None,
        name: Text | None = None,
        group: Text | None = None,
        tags: Sequence[str] = (),
        offline: bool = False,
        save_dir: Text = "outputs/comet",
        experiment_key: Text | None = None,
    ) -> None:
        check_arguments(CometLogger.__init__, locals())
        super().__init__()
        if importlib.util.find_spec("comet_ml") is None:
            raise ModuleNotFoundError("needs the package comet_ml: pip install 'backlit[comet]'")
        if experiment_key is not None and not re.fullmatch(r"[0-9A-Za-z]{32,50}", experiment_key):
            raise ValueError(f"experiment_key must be 32 to 50 letters and digits, got {experiment_key}")
        if not offline:
            _check_server()
        self.project, self.workspace, self.run_name, self.group = project, workspace, name, group
        self.tags, self.offline, self.directory, self.experiment_key = list(tags), offline, save_dir, experiment_key
        self._experiment: CometExperiment | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> "CometExperiment":
        """Return Comet's experiment; the first time, begin or continue it."""
        if self._experiment is None:
            directory = Path(self.directory).absolute()
            if self.offline:
                directory.mkdir(parents=True, exist_ok=True)
            with _random_apart():
                self._experiment = self._start(str(directory))
            self.experiment_key = self._experiment.get_key()
            if self.group:
                self._experiment.log_other("group", self.group)
        return self._experiment

    def _start(self, directory: str) -> "CometExperiment":
        comet_ml = _import_comet()
        config = comet_ml.ExperimentConfig(
            name=self.run_name,
            tags=self.tags,
            offline_directory=directory,
            display_summary_level=0,
            **dict.fromkeys(_NOT_COLLECTED, False),
        )
        experiment: CometExperiment = comet_ml.start(
            workspace=self.workspace,
            project_name=self.project,
            experiment_key=self.experiment_key,
            mode="get_or_create",  # so the files of a run's attempts can be uploaded in any order
            online=not self.offline,
            experiment_config=config,
        )
        if not experiment.alive:
            raise ConnectionError("Comet does not take the experiment")
        return experiment

    @property
    def name(self) -> str:
        """Return the project's name."""
        return self.project

    @property
    def version(self) -> str | None:
        """Return the experiment's key; None before it has begun."""
        return self.experiment_key

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Record parameters, nested ones under names like ``optimizer/lr``."""
        listed = flatten(vars(params) if isinstance(params, Namespace) else params, "/")
        self.experiment.log_parameters({name: _parameter(value) for name, value in listed.items()})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics; ``epoch`` is no metric for Comet, but where they are."""
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self.experiment.log_metrics(values, step=step, epoch=int(metrics["epoch"]) if "epoch" in metrics else None)

    @rank_zero_only
    def log_image(self, key: str, images: "list[Image]", step: int | None = None) -> None:
        """Record pictures of a step under a name."""
        for image in images:
            self.experiment.log_image(image, name=key, step=step)

    @rank_zero_only
    def end_session(self, status: str) -> None:
        """Record how the run ended: completed, failed or interrupted; send or write what waits."""
        self.experiment.log_other("status", status)
        self.experiment.end()
        if self.offline:
            files = f"{shell_path(Path(self.directory))}/{self.experiment_key}*.zip"
            log.info("Comet has nothing of this run yet: comet upload %s", files)
        self._experiment = None


def _parameter(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _check_server() -> None:
    """Raise `ValueError` if there is no key, for which Comet would ask, or nobody answers: it would try for long."""
    with _random_apart():
        comet_ml = _import_comet()
    if not comet_ml.get_config("comet.api_key"):
        raise ValueError("Comet needs an API key: type comet login, or add logger.comet.offline=true")
    address = comet_ml.get_config("comet.url_override") or _SERVER
    try:
        reach(address)
    except (OSError, ValueError) as error:
        raise ValueError(f"Comet does not answer at {address} ({error}); add logger.comet.offline=true") from None


@contextlib.contextmanager
def _random_apart() -> Iterator[None]:
    """Let Comet draw other numbers than those of the run's seed, and restore the run's.

    It names its files by them: a resumed run, which has the same seed, would replace the file of the first attempt.
    """
    state = random.getstate()
    random.seed()
    try:
        yield
    finally:
        random.setstate(state)


def _import_comet() -> Any:
    """Return Comet's package, without what its import does to the process.

    It puts a hook and a log handler of its own there; it changes other libraries, and in every second process sends its
    errors home, unless it is told not to.
    """
    os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")
    os.environ.setdefault("COMET_ERROR_TRACKING_ENABLE", "false")
    hook = sys.excepthook
    import comet_ml

    sys.excepthook = hook
    comet_log = logging.getLogger("comet_ml")
    comet_log.handlers.clear()  # the run's own print above the bar, and write to train.log
    comet_log.propagate = True
    comet_log.setLevel(logging.WARNING)
    return comet_ml
