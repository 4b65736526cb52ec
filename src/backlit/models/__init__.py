"""What learns: networks as plain modules, and LightningModules that say how a step is taken."""

from backlit.models.classifier import BinaryClassifier, Classifier, MulticlassClassifier
from backlit.models.mlp import MLP

__all__ = ["MLP", "BinaryClassifier", "Classifier", "MulticlassClassifier"]
