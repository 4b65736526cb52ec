"""Data sets as LightningDataModules, and input files for predictions."""

from backlit.data.image_folder import ImageFolderDataModule
from backlit.data.memory import InMemoryDataModule
from backlit.data.mnist import MNISTDataModule
from backlit.data.pairs import TensorPairs
from backlit.data.points import PointsDataModule
from backlit.data.table import TableDataModule
from backlit.data.user_files import UserFilesDataModule

__all__ = [
    "ImageFolderDataModule",
    "InMemoryDataModule",
    "MNISTDataModule",
    "PointsDataModule",
    "TableDataModule",
    "TensorPairs",
    "UserFilesDataModule",
]
