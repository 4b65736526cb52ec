"""Networks as plain modules, and LightningModules that define a training step."""

from backlit.models.binary import BinaryClassifier
from backlit.models.classifier import Classifier
from backlit.models.mlp import MLP
from backlit.models.multiclass import MulticlassClassifier

__all__ = ["MLP", "BinaryClassifier", "Classifier", "MulticlassClassifier"]
