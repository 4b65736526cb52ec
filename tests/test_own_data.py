"""A plain LightningModule with plain DataLoaders: from training to a program, by what they define."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning import LightningModule
from PIL import Image

from backlit.evaluate import evaluate
from backlit.export import export
from backlit.load import load_run
from backlit.predict import predict
from backlit.training.train import train
from tests.conftest import Compose

PACKAGE = '''
import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset


class Module(lightning.LightningModule):
    def __init__(self, optimizer=None, scheduler=None):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        self.optimizer, self.scheduler = optimizer, scheduler

    def forward(self, inputs):
        return self.net(inputs)

    def _loss(self, batch, name):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log(name, loss)
        return loss

    def training_step(self, batch, _):
        return self._loss(batch, "train_loss")

    def validation_step(self, batch, _):
        self._loss(batch, "val_loss")

    def test_step(self, batch, _):
        self._loss(batch, "test_loss")

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer, steps)}


class Whole(Module):
    def probabilities(self, logits):
        return logits.softmax(1)


class Bytes(lightning.LightningDataModule):
    """Images, uint8 ``(1, 8, 8)``: class k has a bright row k."""

    class_names = ("cat", "dog", "sneaker")

    def __init__(self, size: int = 60, extra: int = 0):
        super().__init__()
        self.size = size

    def _loader(self, seed):
        labels = torch.arange(self.size) % 3
        images = torch.randint(0, 100, (self.size, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
        images[torch.arange(self.size), 0, labels] += 150
        return DataLoader(TensorDataset(images.to(torch.uint8), labels), batch_size=10)

    def train_dataloader(self):
        return self._loader(0)

    def val_dataloader(self):
        return self._loader(1)

    def test_dataloader(self):
        return self._loader(2)

    def prepare_inputs(self, inputs, dtype):
        return inputs.to(dtype) / 255

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return self.prepare_inputs(batch[0], torch.float32), batch[1]


class Coloured(Bytes):
    """The same in RGB: class k has a bright channel k."""

    def _loader(self, seed):
        labels = torch.arange(self.size) % 3
        images = torch.randint(0, 100, (self.size, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
        images[torch.arange(self.size), labels] += 150
        return DataLoader(TensorDataset(images.to(torch.uint8), labels), batch_size=10)


class OfColours(Whole):
    def __init__(self, optimizer, scheduler):
        super().__init__(optimizer, scheduler)
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
'''

MINE = ["~data", "~model", "+data={_target_: own_images.Bytes}", "optimized_metric=val_loss", "optimizer=adam"]
MINE += ["optimizer.lr=0.1", "trainer.max_epochs=4", "trainer.accelerator=cpu", "scheduler=step_lr", "task_name=mine"]
TRUSTED = ["run=latest", "packages=[own_images]"]


@pytest.fixture
def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, composed: Compose, caplog: pytest.LogCaptureFixture
) -> Callable[..., Path]:
    """Return what trains a module of the package and returns the run directory."""
    (tmp_path / "own_images.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_images", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(name: str, *more: str) -> Path:
        caplog.set_level("INFO")
        train(composed(*MINE, f"+model={{_target_: own_images.{name}}}", *more))
        (found,) = (tmp_path / "outputs" / "mine" / "runs").iterdir()
        return found

    return run


@pytest.mark.slow
def test_what_a_module_and_its_data_define_is_enough_for_everything(
    trained: Callable[..., Path], composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained("Whole")
    assert "train_loss 0." in caplog.text
    assert "val_loss 0." in caplog.text
    assert (run / "plots" / "confusion_matrix.png").exists()
    assert (run / "plots" / "mistakes.png").exists()
    assert json.loads((run / "run.json").read_text())["inputs"] == {"shape": [1, 8, 8], "dtype": "uint8"}

    evaluate(composed(*TRUSTED, "resamples=20", config_name="evaluate"))
    (judged,) = (run / "evaluations").iterdir()
    found = json.loads((judged / "evaluation.json").read_text())
    loaded = load_run(run, packages=["own_images"])
    assert isinstance(loaded.model, LightningModule)
    images, labels = (torch.cat(parts) for parts in zip(*loaded.datamodule.test_dataloader(), strict=True))
    by_hand = loaded.model(images / 255).softmax(1).detach()
    right = (by_hand.argmax(1) == labels).float().mean().item()
    assert found["metrics"]["acc"] == pytest.approx(right)
    assert found["intervals"]["acc"][0] <= right <= found["intervals"]["acc"][1]
    assert [row["class"] for row in found["classes"]] == ["cat", "dog", "sneaker"]
    assert found["samples"] == 60

    # Own images are taken as they are, on a bright ground, too.
    bright = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    bright[:, :, 2:6, 2:6] = images[2:3, :, 2:6, 2:6]
    for pixels in (images[2:3], bright):
        expected = loaded.model(pixels / 255).softmax(1)[0]
        Image.fromarray(pixels[0, 0].numpy()).save("shoe.png")
        predict(composed(*TRUSTED, "input=shoe.png", "output=out.csv", config_name="predict"))
        with Path("out.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        label = int(expected.argmax())
        assert (row["label"], row["class"], row["inverted"]) == (str(label), ("cat", "dog", "sneaker")[label], "False")
        assert float(row["probability"]) == pytest.approx(expected.max().item(), abs=1e-5)

    exported: Any = torch.export.load(export(composed(*TRUSTED, "format=torch_export", config_name="export")))
    assert torch.allclose(exported.module()(images), by_hand, atol=1e-6)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(export(composed(*TRUSTED, "format=onnx", config_name="export")))
    assert session.get_inputs()[0].type == "tensor(uint8)"
    (outputs,) = session.run(None, {"inputs": images.numpy()})
    assert numpy.allclose(outputs, by_hand, atol=1e-6)


@pytest.mark.slow
def test_a_module_without_probabilities_is_evaluated_and_one_line_says_what_to_add(
    trained: Callable[..., Path], composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained("Module")
    line = "Module needs probabilities(self, logits), for several classes: return logits.softmax(1)"
    assert f"no confusion matrix: {line}" in caplog.text
    assert not (run / "plots" / "confusion_matrix.png").exists()
    metrics = evaluate(composed(*TRUSTED, config_name="evaluate"))
    assert set(metrics) == {"test_loss"}
    assert f"intervals, classes and pictures: {line}" in caplog.text


@pytest.mark.slow
def test_own_pictures_in_colours_are_predicted(trained: Callable[..., Path], composed: Compose) -> None:
    run = trained("OfColours", "data._target_=own_images.Coloured")
    loaded = load_run(run, packages=["own_images"])
    assert isinstance(loaded.model, LightningModule)
    pixels = torch.full((1, 3, 8, 8), 20, dtype=torch.uint8)
    pixels[:, 1] = 240
    expected = loaded.model(pixels / 255).softmax(1)[0]
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).save("dog.png")
    predict(composed(*TRUSTED, "input=dog.png", "output=out.csv", config_name="predict"))
    with Path("out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["class"] == "dog"
    assert float(row["probability"]) == pytest.approx(expected[1].item(), abs=1e-5)
    assert Path("out.png").exists()
