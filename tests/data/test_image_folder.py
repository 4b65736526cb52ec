"""Folders of pictures as people have them, and what is wrong with them; pixels are compared with torchvision's."""

import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from backlit.data import ImageFolderDataModule
from backlit.data.pictures import PictureReader, read_picture
from tests.helpers.own_files import write_pictures


def read(directory: str = "pictures", **arguments: Any) -> ImageFolderDataModule:
    given: dict[str, Any] = {"data_dir": directory, "image_size": 8} | arguments
    data = ImageFolderDataModule(**given)
    data.prepare_data()
    return data


def rejected(directory: str = "pictures", **arguments: Any) -> str:
    with pytest.raises(ValueError, match=r".") as raised:
        read(directory, **arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def pictures() -> Path:
    """Ten bluish and ten reddish pictures."""
    write_pictures(Path("pictures"))
    return Path("pictures")


def test_images_and_classes_are_those_of_torchvision(pictures: Path) -> None:
    data = read(image_size=[6, 5], val_fraction=0, test_fraction=0.2)
    folder = ImageFolder(pictures, v2.Compose([v2.Resize(6), v2.CenterCrop((6, 5))]))
    assert (list(data.class_names), data.input_shape, data.val_size) == (folder.classes, (3, 6, 5), 0)
    assert (len(data.train_set), data.val_set, len(data.test_set)) == (16, None, 4)
    images = torch.cat([data.train_set.inputs, data.test_set.inputs])
    labels = torch.cat([data.train_set.targets, data.test_set.targets]).tolist()
    expected = numpy.stack([numpy.asarray(image, numpy.float64).transpose(2, 0, 1) for image, _ in folder])
    assert images.dtype == torch.uint8
    for image, label in zip(images.double().numpy(), labels, strict=True):
        # Scaling before or after the cut, and a JPEG at full size or half, differ a little.
        distances = [abs(image - one).mean() + 1000 * (label != folder.targets[i]) for i, one in enumerate(expected)]
        assert min(distances) < 25
    assert torch.bincount(data.test_set.targets).tolist() == [2, 2]


def test_pixels_are_normalised_by_the_training_images(pictures: Path) -> None:
    data = read()
    pixels = data.train_set.inputs.numpy() / 255
    mean, std = pixels.mean((0, 2, 3), keepdims=True), pixels.std((0, 2, 3), keepdims=True)
    prepared = data.prepare_inputs(data.train_set.inputs, torch.float64).numpy()
    numpy.testing.assert_allclose(prepared, (pixels - mean) / std, atol=1e-10)
    given = read(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.25])
    white = given.prepare_inputs(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), torch.float32)
    assert white.flatten().tolist() == pytest.approx([1, 1, 2])


def test_folders_of_their_own_are_the_parts_and_what_is_no_picture_is_left_out(pictures: Path) -> None:
    for part, seed in (("train", 1), ("val", 2), ("test", 3)):
        write_pictures(Path("whole") / part, per_class=seed + 1, seed=seed)
    (pictures / "red" / "notes.txt").write_text("")
    (pictures / "red" / ".hidden.png").write_text("")
    (pictures / ".cache").mkdir()
    (pictures / "red" / "more").mkdir()
    shutil.move(pictures / "red" / "00_1.png", pictures / "red" / "more" / "0.PNG")
    data = read("whole")
    assert data.val_set is not None
    assert [len(part) for part in (data.train_set, data.val_set, data.test_set)] == [4, 6, 8]
    data = read(val_fraction=0.1, test_fraction=0.2)
    assert data.val_set is not None
    assert [len(part) for part in (data.train_set, data.val_set, data.test_set)] == [14, 2, 4]


def test_augmented_images_differ_each_time_and_only_in_training(pictures: Path) -> None:
    data = read(image_size=16, augment=True)
    images = data.train_set.inputs
    torch.manual_seed(0)
    plain, first, second = (data.prepare_inputs(images, torch.float32, train=train) for train in (False, True, True))
    assert first.shape == plain.shape
    assert not torch.equal(first, second)
    assert torch.equal(plain, data.prepare_inputs(images, torch.float32))
    assert set(first[0, 0].flatten().tolist()) <= set(plain[0, 0].flatten().tolist())


def save(picture: Image.Image, **arguments: Any) -> Any:
    picture.save("one", **({"format": "PNG"} | arguments))
    with Path("one").open("rb") as stream:
        return read_picture(stream, (3, 4, 4)).transpose(1, 2, 0)


def test_pictures_of_all_kinds_are_what_a_viewer_shows() -> None:
    red = Image.new("RGB", (9, 7), (200, 0, 0))
    assert (save(red) == (200, 0, 0)).all()
    assert (save(red.convert("P")) == save(red.convert("P").convert("RGB"))).all()
    assert (save(Image.new("L", (4, 4), 90)) == 90).all()
    assert (save(Image.new("1", (4, 4), 1)) == 255).all()
    assert (save(Image.new("I;16", (4, 4), 257 * 90)) == 90).all()
    assert (save(Image.new("RGBA", (4, 4), (200, 0, 0, 0))) == 255).all()  # transparent is white
    assert (save(Image.new("LA", (4, 4), (0, 255))) == 0).all()
    assert (save(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), format="JPEG") >= 250).all()
    # A photo that the camera has turned: its left half is black where it is stored.
    stored = Image.new("RGB", (64, 64), "white")
    stored.paste((0, 0, 0), (0, 0, 32, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    shown = save(stored, format="JPEG", exif=exif)
    assert shown[:2].max() < 40  # scaling smooths the edge
    assert shown[2:].min() > 215


def test_damaged_pictures_are_named_before_anything_is_trained(pictures: Path) -> None:
    for name in ("b.png", "c.png"):
        (pictures / "blue" / name).write_text("no picture")
    start = "data_dir must have images that can be read: pictures/blue/"
    assert rejected() == f"{start}b.png cannot be read: it is no image, and 1 more"
    (pictures / "blue" / "c.png").unlink()
    whole = (pictures / "red" / "00_1.png").read_bytes()
    (pictures / "blue" / "b.png").write_bytes(whole[: len(whole) // 2])
    assert rejected().startswith(f"{start}b.png cannot be read: ")


def test_directories_that_do_not_fit_are_one_line(pictures: Path) -> None:
    where = "data_dir must have a folder of images per class, got "
    Path("empty").mkdir()
    assert rejected("nowhere") == "data_dir must be a directory with a folder of images per class, got nowhere"
    assert rejected("empty") == f"{where}empty, which has none: empty/<class>/*.png"
    assert rejected("pictures/red") == f"{where}pictures/red, which has none: pictures/red/<class>/*.png"
    (pictures / "green").mkdir()
    assert rejected().startswith(f"{where}pictures, where pictures/green has none (")
    (pictures / "green").rmdir()
    Path("one/blue").mkdir(parents=True)
    assert rejected("one") == f"{where}one, which has 1: one/<class>/*.png"
    write_pictures(Path("whole/train"))
    Path("whole/test/violet").mkdir(parents=True)
    assert rejected("whole") == "data_dir must have no class in whole/test but blue, red, got violet"
    assert rejected(mean=[0.5]) == "mean must be one number for each of 3 channels, got [0.5]"
    assert rejected(channels=2).startswith("channels must be")
    assert rejected(image_size=0).startswith("image_size must")
    assert rejected(val_fraction=0.5, test_fraction=0.5) == "val_fraction must be < 0.5 (1 - test_fraction), got 0.5"


def test_images_that_do_not_fit_into_memory_are_not_read(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PHYS_PAGES": 4, "SC_PAGE_SIZE": 1000}[name])
    assert rejected().startswith("image_size must be smaller: 20 images take 0.0 GB, half of this machine's memory is")


def test_predictions_read_pictures_as_training_does(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "blue" / "broken.png").write_text("")
    files = sorted(map(str, pictures.glob("*/*")))
    reader = PictureReader((3, 8, 8), batch_size=4)
    batches = list(reader.batches(files))
    assert [len(rows) for rows, _ in batches] == [4, 4, 3, 4, 4, 1]
    assert capsys.readouterr().err == "error: pictures/blue/broken.png cannot be read: it is no image\n"
    assert reader.skipped == 1
    (pictures / "blue" / "broken.png").unlink()
    data = read(val_fraction=0)
    found = {image.numpy().tobytes() for _, images in batches for image in images}
    assert found == {image.numpy().tobytes() for part in (data.train_set, data.test_set) for image in part.inputs}
