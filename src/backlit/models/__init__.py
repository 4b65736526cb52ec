"""Networks as plain modules, and LightningModules that define a training step."""

from backlit.models.binary import BinaryClassifier
from backlit.models.classifier import Classifier
from backlit.models.cnn import CNN
from backlit.models.cnn_classifier import CNNClassifier
from backlit.models.mlp import MLP
from backlit.models.multiclass import MulticlassClassifier, SoftmaxClassifier

__all__ = ["CNN", "MLP", "BinaryClassifier", "CNNClassifier", "Classifier", "MulticlassClassifier", "SoftmaxClassifier"]
