"""What has started this process: Lightning, torchrun, srun, or nobody."""

import os
import warnings
from typing import TYPE_CHECKING

from backlit.errors import RankError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

# What Lightning, torchrun and srun set for the processes of a run. A job of a sweep is no part of the run that the
# sweep was started in, and starts without them.
LIGHTNING_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LAUNCHER_VARIABLES = (
    *LIGHTNING_VARIABLES,
    "RANK",
    "GROUP_RANK",
    "LOCAL_WORLD_SIZE",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)


def is_lightning_child() -> bool:
    """Return whether Lightning has started this process from the first process of the run."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and launcher_environment() is None


def is_on_one_machine() -> bool:
    """Return whether all processes of the run that torchrun or srun has started are on this machine."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE") is not None
    return os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES")) == "1"


def launcher_environment() -> "ClusterEnvironment | None":
    """Return the environment of torchrun or srun, if one of them has started this process and others with it.

    Raises:
        RankError: If its settings are none that Lightning takes.
    """
    if not {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS"} & set(os.environ):
        return None  # known without the imports
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    kinds: tuple[type[ClusterEnvironment], ...] = (TorchElasticEnvironment, SLURMEnvironment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that srun exists, but is not used
        try:
            found = [kind() for kind in kinds if kind.detect()]
        except RuntimeError as error:  # Lightning wants srun's --ntasks-per-node, say
            raise RankError(str(error)) from None
    return found[0] if found and found[0].world_size() > 1 else None
