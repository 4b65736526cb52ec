"""backlit: experiments with small neural networks on Lightning, composed by Hydra, shown in TensorBoard.

This module imports nothing heavy, so that ``--help`` and tab completion answer at once.
"""

__version__ = "0.1.0"
