"""Loggers from the nodes of a config: what they need on this machine, and what they get of an earlier attempt."""

import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object
from lightning.pytorch import loggers
from omegaconf import DictConfig

# Loggers of Lightning that need a package, which an extra of the same name brings.
_PACKAGES: dict[type, str] = {loggers.WandbLogger: "wandb", loggers.MLFlowLogger: "mlflow"}
# By what loggers call it: the run of theirs to continue.
_RUN_ARGUMENTS = ("run_id", "id", "experiment_key")
_NOT_ONLINE = ("offline", "dryrun", "disabled")


def run_argument(kind: Any) -> str | None:
    """Return the argument by which a logger continues a run on its server; None if it has none."""
    if not (isinstance(kind, type) and issubclass(kind, loggers.Logger)):
        return None
    parameters = inspect.signature(kind).parameters
    return next((name for name in _RUN_ARGUMENTS if name in parameters), None)


def resumed_arguments(node: DictConfig, steps_done: int | None, run_id: str | None) -> dict[str, Any]:
    """Return what a logger gets beside the arguments of its node when a run resumes.

    TensorBoard forgets the events from the checkpoint's step on. Those of that step itself may be of the test, or of
    the next step; `backlit.training.run_loggers` records the others again. A server has one run for all attempts.

    Args:
        node: The logger's node.
        steps_done: Optimizer steps of the checkpoint that the run resumes from; None for a fresh run.
        run_id: The logger's run on its server, as an earlier attempt has recorded it.
    """
    kind = get_object(node["_target_"])
    if steps_done is None:
        return {}
    if isinstance(kind, type) and issubclass(kind, loggers.TensorBoardLogger):
        return {"purge_step": steps_done}
    name = run_argument(kind)
    return {name: run_id} if name and run_id and node.get(name) is None else {}


def check_available(node: DictConfig) -> None:
    """Check that a logger can work here, before anything is started.

    Raises:
        ModuleNotFoundError: If its package is not installed.
        ValueError: If it sends to Weights & Biases and nobody is logged in: W&B itself would ask, and wait.
    """
    kind = get_object(node["_target_"])
    bases = kind.__mro__ if isinstance(kind, type) else ()
    package = next((_PACKAGES[base] for base in bases if base in _PACKAGES), None)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"needs the package {package}: pip install 'backlit[{package}]'")
    if package == "wandb":
        _check_login(node)


def _check_login(node: Mapping[str, Any]) -> None:
    if node.get("offline") or node.get("mode") in _NOT_ONLINE:
        return
    import wandb

    if wandb.setup().settings.mode in _NOT_ONLINE:
        return
    reason = "nobody is logged in"
    try:
        if wandb.login(prompt=False, verify=False):
            return
    except wandb.errors.Error as error:
        reason = str(error)
    raise ValueError(f"W&B needs a login ({reason}): type wandb login, or add logger.wandb.offline=true")
