"""Data sets as LightningDataModules, and input files for predictions."""

from backlit.data.memory import InMemoryDataModule
from backlit.data.mnist import MNISTDataModule
from backlit.data.pairs import TensorPairs
from backlit.data.points import PointsDataModule

__all__ = ["InMemoryDataModule", "MNISTDataModule", "PointsDataModule", "TensorPairs"]
