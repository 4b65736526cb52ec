"""MLflow: a run of its tracking server, or of a database in a file."""

import importlib.util
import logging
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only

from backlit.arguments import Text, check_arguments
from backlit.loggers.server import reach
from backlit.text import first_line, flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from PIL.Image import Image

log = logging.getLogger(__name__)

_STATUSES = {"completed": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_SQLITE = "sqlite:///"
# A call takes 60 ms with SQLite, however many metrics it has; MLflow takes 1,000.
_FLUSH_SECONDS, _MOST_WAITING = 5, 900
_LONGEST_PARAMETER = 6000


class MLFlowLogger(loggers.Logger):
    """Writes a run to MLflow: hyperparameters, metrics, pictures, and how it ended.

    Lightning's makes its database as soon as it is built, by a command that is rejected too; it writes each record by
    itself, and says after training, before the test, that the run is finished.

    Args:
        tracking_uri: Address of a server, or ``sqlite:///`` and the path of a file. Pictures go to
            ``mlflow_artifacts/`` beside such a file; a server has a place for them.
        experiment_name: The experiment, which is made if there is none of this name.
        run_name: The run's name; None for one that MLflow chooses.
        tags: Tags of the run, by name; those that are None are left out.
        run_id: The run to continue; None for a new one.

    Raises:
        ModuleNotFoundError: If MLflow is not installed.
        ValueError: If nothing answers at the address.
    """

    def __init__(
        self,
        tracking_uri: Text,
        experiment_name: Text,
        run_name: str | None = None,
        tags: dict[str, Any] | None = None,
        run_id: Text | None = None,
    ) -> None:
        check_arguments(MLFlowLogger.__init__, locals())
        super().__init__()
        if importlib.util.find_spec("mlflow") is None:
            raise ModuleNotFoundError("needs the package mlflow: pip install 'backlit[mlflow]'")
        _reach(tracking_uri)
        self.tracking_uri, self.experiment_name, self.run_name = tracking_uri, experiment_name, run_name
        self.tags = {name: str(value) for name, value in (tags or {}).items() if value is not None}
        self.run_id = run_id
        self._client: MlflowClient | None = None
        self._waiting: list[Metric] = []
        self._flushed_at = monotonic()

    @property
    @rank_zero_experiment
    def experiment(self) -> "MlflowClient":
        """Return MLflow's client; the first time, begin the run, or continue it."""
        if self._client is None:
            from mlflow import MlflowClient

            if self.tracking_uri.startswith(_SQLITE):
                Path(self.tracking_uri.removeprefix(_SQLITE)).absolute().parent.mkdir(parents=True, exist_ok=True)
            client = MlflowClient(self.tracking_uri)
            self.run_id = self._continue_run(client) or self._create_run(client)
            self._client = client
        return self._client

    def _continue_run(self, client: "MlflowClient") -> str | None:
        """Return the id of the run to continue; None if a new one is to begin."""
        from mlflow.exceptions import MlflowException

        if self.run_id is None:
            return None
        try:
            client.update_run(self.run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            log.warning("MLflow has no run %s in %s: a new one begins", self.run_id, self.tracking_uri)
            return None
        return self.run_id

    def _create_run(self, client: "MlflowClient") -> str:
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(self.experiment_name)
        if experiment is None:
            try:
                client.create_experiment(self.experiment_name, artifact_location=self._artifacts())
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another job of a sweep has just made it
                    raise
            experiment = client.get_experiment_by_name(self.experiment_name)
        assert experiment is not None
        run = client.create_run(experiment.experiment_id, tags=self.tags, run_name=self.run_name)
        run_id: str = run.info.run_id
        return run_id

    def _artifacts(self) -> str | None:
        """Return where the pictures of a new experiment go; None leaves it to the server."""
        if not self.tracking_uri.startswith(_SQLITE):
            return None
        return (Path(self.tracking_uri.removeprefix(_SQLITE)).absolute().parent / "mlflow_artifacts").as_uri()

    @property
    def name(self) -> str:
        """Return the experiment's name."""
        return self.experiment_name

    @property
    def version(self) -> str | None:
        """Return the run's id; None before it has begun."""
        return self.run_id

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Record parameters, nested ones under names like ``optimizer/lr``.

        MLflow lets no parameter change. Where a run that is resumed has another value, that is a tag of the same name.
        """
        from mlflow.entities import Param, RunTag

        values = {
            name: str(value)[:_LONGEST_PARAMETER]
            for name, value in flatten(vars(params) if isinstance(params, Namespace) else params, "/").items()
        }
        recorded = self.experiment.get_run(self.run_id).data.params
        new = [Param(name, value) for name, value in values.items() if name not in recorded]
        tags = [RunTag(name, value) for name, value in values.items() if recorded.get(name, value) != value]
        self.experiment.log_batch(self.run_id, params=new, tags=tags)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics; what is recorded within a few seconds is sent together."""
        from mlflow.entities import Metric

        now = int(time() * 1000)
        # MLflow takes no other characters in names.
        self._waiting += [Metric(re.sub(r"[^\w/. -]", "_", k), float(v), now, step or 0) for k, v in metrics.items()]
        if monotonic() - self._flushed_at > _FLUSH_SECONDS or len(self._waiting) > _MOST_WAITING:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, []
        self._flushed_at = monotonic()
        for first in range(0, len(waiting), _MOST_WAITING):
            self.experiment.log_batch(self.run_id, metrics=waiting[first : first + _MOST_WAITING])

    @rank_zero_only
    def log_image(self, key: str, images: "list[Image]", step: int | None = None) -> None:
        """Record pictures of a step under a name."""
        for image in images:
            self.experiment.log_image(self.run_id, image, key=key, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send what waits: Lightning calls this after training, before the test; `end_session` ends the run."""
        if self._client is not None:
            self.flush()

    @rank_zero_only
    def end_session(self, status: str) -> None:
        """Record how the run ended: completed, failed or interrupted."""
        self.flush()
        self.experiment.set_terminated(self.run_id, _STATUSES[status])


def _reach(tracking_uri: str) -> None:
    """Raise `ValueError` if nobody answers at the address of a server: MLflow itself would try for minutes."""
    if urlsplit(tracking_uri).scheme not in ("http", "https"):
        return
    try:
        reach(tracking_uri)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise ValueError(f"tracking_uri must be the address of a server, got {tracking_uri}: {reason}") from None
