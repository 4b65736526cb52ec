"""backlit: experiments with small neural networks on Lightning, composed by Hydra, shown in TensorBoard.

This module imports nothing heavy, so that ``--help`` and tab completion answer at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backlit.load import LoadedRun, load_run

__all__ = ["LoadedRun", "load_run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from backlit import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
