"""A user's package: a network, data, and a LightningModule that does not use backlit."""

PACKAGE = """
import lightning
import torch
import torchmetrics.classification as metrics
from backlit.data import InMemoryDataModule, TensorPairs
from backlit.models import Classifier
from torchmetrics import MetricCollection


class MyCNN(Classifier):
    def __init__(self, channels: int, optimizer=None, scheduler=None):
        convolution = torch.nn.Conv2d(1, channels, 3)
        net = torch.nn.Sequential(convolution, torch.nn.Conv2d(channels, 4, 6), torch.nn.Flatten())
        super().__init__(net, MetricCollection({"acc": metrics.MulticlassAccuracy(4)}), optimizer, scheduler)

    def loss(self, logits, targets):
        return torch.nn.functional.cross_entropy(logits, targets)

    def probabilities(self, logits):
        return logits.softmax(1)


class MyData(InMemoryDataModule):
    input_shape, num_classes = (1, 8, 8), 4

    def __init__(self, size: int, batch_size: int = 16, seed: int = 0):
        super().__init__(batch_size=batch_size, seed=seed)
        self.size = size

    def setup(self, stage):
        labels = torch.arange(self.size) % 4
        noise = torch.rand(self.size, 1, 8, 8, generator=torch.Generator().manual_seed(self.seed))
        images = noise + labels[:, None, None, None]
        self.train_set = self.val_set = self.test_set = TensorPairs(images, labels)


class Foreign(lightning.LightningModule):
    def __init__(self, optimizer, scheduler):
        super().__init__()
        self.layer, self.optimizer = torch.nn.Linear(64, 4), optimizer

    def _loss(self, batch, name):
        loss = torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])
        self.log(name, loss)
        return loss

    def training_step(self, batch, _):
        return self._loss(batch, "train_loss")

    def validation_step(self, batch, _):
        self._loss(batch, "val_loss")

    def test_step(self, batch, _):
        self._loss(batch, "test_loss")

    def configure_optimizers(self):
        return self.optimizer(self.parameters())
"""
