"""Where metrics go: the CSV file that every run writes, TensorBoard, MLflow, Comet; what every logger gets besides."""

from backlit.loggers.comet import CometLogger
from backlit.loggers.metrics_csv import MetricsCSV
from backlit.loggers.mlflow import MLFlowLogger
from backlit.loggers.tensorboard import TensorBoardLogger

__all__ = ["CometLogger", "MLFlowLogger", "MetricsCSV", "TensorBoardLogger"]
