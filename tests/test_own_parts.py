"""A model, data and an experiment of somebody's own, and a LightningModule that knows nothing of backlit."""

import json
import re
import sys
import warnings
from pathlib import Path

import pytest

from backlit.train import train
from tests.conftest import Compose, RunCommand

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


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "my_package.py").write_text(PACKAGE)
    files = {
        "model/my_cnn": "_target_: my_package.MyCNN\nchannels: 3\n",
        "model/foreign": "_target_: my_package.Foreign\n",
        "data/my_data": "_target_: my_package.MyData\nsize: 64\n",
        "experiment/mine": (
            "# @package _global_\ndefaults:\n  - override /data: my_data\n  - override /model: my_cnn\n"
            "task_name: mine\ntrainer:\n  max_epochs: 2\n  accelerator: cpu\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / "my_configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert str(tmp_path) not in sys.path
    return tmp_path


def test_the_example_in_the_readme(composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    train(composed("experiment=mnist_mlp", "trainer.limit_train_batches=5", "trainer.max_epochs=1", "callbacks=none"))
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    quiet = code.replace("max_epochs=2", "max_epochs=1, enable_progress_bar=False, logger=False")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints
        exec(quiet, {})
    assert "tensor([[" in capsys.readouterr().out


@pytest.mark.parametrize("foreign", [False, True])
def test_own_parts_are_trained_and_judged(foreign: bool, own: Path, run_command: RunCommand) -> None:
    overrides = ["model=foreign", "optimized_metric=val_loss", "optimized_mode=min"] if foreign else []
    done = run_command("backlit-train", "--config-dir", "my_configs", "experiment=mine", *overrides)
    assert done.returncode == 0, done.stderr
    (run,) = (own / "outputs" / "mine" / "runs").iterdir()
    saved = json.loads((run / "metrics.json").read_text())["metrics"]
    name = "test_loss" if foreign else "test/loss"
    assert f"{saved[name]:.4f}" in done.stdout
    # A run directory is trusted with no code, of whomever it is, unless its reader says so.
    refused = run_command("backlit-evaluate", "run=latest", "trainer=cpu")
    assert refused.returncode == 2
    assert refused.stderr.endswith("if you trust that code: packages=[my_package]\n")
    judged = run_command("backlit-evaluate", "run=latest", "trainer=cpu", "packages=[my_package]", "resamples=0")
    assert judged.returncode == 0, judged.stderr
    assert f"{saved[name]:.4f}" in judged.stdout
    assert (run / "plots" / "curves.png").exists()
    assert (run / "plots" / "mistakes.png").exists() != foreign
