"""The network, the data, and the experiment with a few images."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from my_project.data import ImageFolders
from my_project.model import SmallCNN
from PIL import Image


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Ten images a class; those of class n have the brightness 20 n."""
    for label in range(10):
        (tmp_path / "digits" / str(label)).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (40, 30), 20 * label).save(tmp_path / "digits" / str(label) / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("size", [8, 28, 30])
def test_the_network_returns_a_number_per_class(size: int) -> None:
    assert SmallCNN(num_classes=3, size=size)(torch.zeros(2, 1, size, size)).shape == (2, 3)


def test_images_are_read_and_split(data_dir: Path) -> None:
    data = ImageFolders(data_dir=str(data_dir), val_part=0.2, test_part=0.1)
    data.prepare_data()
    data.setup("fit")
    assert [len(part) for part in (data.train_set, data.val_set, data.test_set)] == [70, 20, 10]
    assert torch.equal(data.train_set.inputs[:, 0, 5, 5].long(), 20 * data.train_set.targets)


def test_a_missing_folder_is_named(data_dir: Path) -> None:
    with pytest.raises(ValueError, match="images must have a folder cats with images"):
        ImageFolders(data_dir=str(data_dir), classes=["0", "cats"]).prepare_data()


def test_the_experiment_trains(data_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "backlit.train", "experiment=digits", "trainer=cpu", "trainer.max_epochs=1"]
    command += ["data.images=digits", 'data.classes=["0","1","2","3","4","5","6","7","8","9"]']
    command += [f"data.data_dir='{data_dir}'", f"hydra.run.dir='{tmp_path / 'run'}'"]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True)
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()
