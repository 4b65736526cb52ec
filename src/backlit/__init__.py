"""backlit: experiments with small neural networks on Lightning, composed by Hydra, shown in TensorBoard.

This module imports nothing heavy, so that ``--help`` and tab completion answer at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backlit.errors import ConfigError
    from backlit.experiment import run_experiment
    from backlit.load import LoadedRun, LoadedSweep, load_run, load_sweep

__all__ = ["ConfigError", "LoadedRun", "LoadedSweep", "load_run", "load_sweep", "run_experiment"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        modules = {"ConfigError": "backlit.errors", "run_experiment": "backlit.experiment"}
        return getattr(import_module(modules.get(name, "backlit.load")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]  # for completion in a notebook
