"""What is shown, drawn and written while training."""

from backlit.callbacks.checkpoints import LastCheckpoint, SafeCheckpointIO
from backlit.callbacks.pictures import Pictures
from backlit.callbacks.progress import EpochLines, ProgressBar
from backlit.callbacks.tensorboard import Histograms, ModelGraph

__all__ = ["EpochLines", "Histograms", "LastCheckpoint", "ModelGraph", "Pictures", "ProgressBar", "SafeCheckpointIO"]
