"""What is learned from: one LightningDataModule a data set."""

from backlit.data.memory import InMemoryDataModule, TensorPairs
from backlit.data.mnist import MNISTDataModule
from backlit.data.points import PointsDataModule

__all__ = ["InMemoryDataModule", "MNISTDataModule", "PointsDataModule", "TensorPairs"]
