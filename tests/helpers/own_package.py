"""A user's package: a network, data, and a LightningModule that does not use backlit; its configs, its project."""

from pathlib import Path

CONFIGS = {
    "model/my_cnn": "_target_: my_package.MyCNN\nchannels: 3\n",
    "model/foreign": "_target_: my_package.Foreign\n",
    "data/my_data": "_target_: my_package.MyData\nsize: 64\n",
    "experiment/mine": (
        "# @package _global_\ndefaults:\n  - override /data: my_data\n  - override /model: my_cnn\n"
        "task_name: mine\ntrainer:\n  max_epochs: 2\n  accelerator: cpu\n"
    ),
}
PYPROJECT = '[tool.backlit]\nconf = "conf"\npackages = ["my_package"]\n'


def write_configs(directory: Path) -> None:
    """Write the YAML files of the package."""
    for name, text in CONFIGS.items():
        path = directory / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_project(directory: Path) -> None:
    """Write the package, its configs and ``pyproject.toml``; Python finds the package once ``src`` is in its path."""
    write_configs(directory / "conf")
    (directory / "src" / "my_package").mkdir(parents=True)
    (directory / "src" / "my_package" / "__init__.py").write_text(PACKAGE)
    (directory / "pyproject.toml").write_text(PYPROJECT)


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
