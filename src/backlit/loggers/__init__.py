"""Where metrics go: the CSV file that every run writes, and TensorBoard."""

from backlit.loggers.metrics_csv import MetricsCSV
from backlit.loggers.tensorboard import TensorBoardLogger

__all__ = ["MetricsCSV", "TensorBoardLogger"]
