"""Progress, pictures, TensorBoard records and averages of a run in training; each callback can be switched off."""

from backlit.callbacks.averaging import EpochAveraging
from backlit.callbacks.pictures import Pictures
from backlit.callbacks.progress import EpochLines, ProgressBar
from backlit.callbacks.tensorboard import Histograms, ModelGraph

__all__ = ["EpochAveraging", "EpochLines", "Histograms", "ModelGraph", "Pictures", "ProgressBar"]
