"""MNIST's own files and the other data sets in its format; `backlit.data.mnist_unpack` has its own tests."""

import struct
from pathlib import Path

import numpy
import pytest
import torch

from backlit.data import MNISTDataModule
from tests.helpers.images import write_idx


def tiny(data_dir: str, **arguments: object) -> MNISTDataModule:
    data = MNISTDataModule(data_dir=data_dir, dataset="FashionMNIST", **arguments)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    return data


def test_mnist_comes_with_the_package(mnist_data: Path) -> None:
    data = MNISTDataModule(data_dir=str(mnist_data))
    data.prepare_data()
    data.setup("fit")
    assert data.val_set is not None
    assert data.train_set.inputs.shape == (55_000, 1, 28, 28)
    assert data.train_set.inputs.dtype == torch.uint8
    assert len(data.val_set.targets) == 5_000
    assert len(data.test_set.targets) == 10_000
    # Counts of the digits and the mean pixel, as published for MNIST.
    both = torch.cat([data.train_set.targets, data.val_set.targets])
    assert torch.bincount(both).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.test_set.targets).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = torch.cat([data.train_set.inputs, data.val_set.inputs]).float() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)


def test_splits_are_disjoint_and_repeatable_and_lose_no_image(tiny_images: str) -> None:
    first, repeated, other = (tiny(tiny_images, val_size=60, seed=seed) for seed in (0, 0, 1))
    whole = tiny(tiny_images, val_size=0).train_set

    def keys(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    assert first.val_set is not None
    assert repeated.val_set is not None
    assert other.val_set is not None
    assert keys(first.train_set.inputs) | keys(first.val_set.inputs) == keys(whole.inputs)
    assert not keys(first.train_set.inputs) & keys(first.val_set.inputs)
    assert (len(keys(whole.inputs)), len(first.val_set.targets)) == (200, 60)
    assert torch.equal(first.val_set.inputs, repeated.val_set.inputs)
    assert not torch.equal(first.val_set.inputs, other.val_set.inputs)


def test_qmnist_has_eight_columns_of_labels_and_ten_thousand_test_digits(tmp_path: Path) -> None:
    raw = tmp_path / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, size in (("train", 30), ("test", 10_005)):
        labels = numpy.zeros((size, 8), dtype=">i4")
        labels[:, 0] = numpy.arange(size) % 10
        header = struct.pack(">BBBBII", 0, 0, 0x0C, 2, *labels.shape)
        (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(header + labels.tobytes())
        write_idx(raw / f"qmnist-{part}-images-idx3-ubyte", numpy.zeros((size, 28, 28), dtype=numpy.uint8))
    data = MNISTDataModule(data_dir=str(tmp_path), dataset="QMNIST", val_size=5)
    data.setup("fit")
    assert data.train_set.inputs.shape == (25, 1, 28, 28)
    assert data.test_set.targets.shape == (10_000,)
    assert data.test_set.targets[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pixels_are_normalised_as_torchvision_does(dtype: torch.dtype) -> None:
    data = MNISTDataModule(mean=0.3, std=0.7)
    images = torch.arange(256, dtype=torch.uint8).repeat(4)[: 28 * 28].reshape(1, 1, 28, 28)
    expected = (images.double() / 255 - 0.3) / 0.7
    prepared = data.prepare_inputs(images, dtype)
    assert prepared.dtype == dtype
    assert torch.allclose(prepared.double(), expected, atol=2e-2 if dtype == torch.bfloat16 else 1e-6)


def test_augmentation_changes_training_images_only() -> None:
    torch.manual_seed(0)
    data = MNISTDataModule(augmentation={"degrees": 30, "translate": [0.2, 0.2]})
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    plain = data.prepare_inputs(images, torch.float32)
    assert torch.equal(plain, data.prepare_inputs(images, torch.float32))
    assert not torch.equal(plain, data.prepare_inputs(images, torch.float32, train=True))


def test_noise_changes_test_images_only(tiny_images: str) -> None:
    clean, noisy, repeated = (tiny(tiny_images, val_size=60, test_noise=noise) for noise in (0, 0.05, 0.05))
    assert torch.equal(noisy.test_set.inputs, repeated.test_set.inputs)
    assert torch.equal(noisy.train_set.inputs, clean.train_set.inputs)
    assert torch.equal(noisy.test_set.targets, clean.test_set.targets)
    before, after = clean.test_set.inputs, noisy.test_set.inputs
    assert after.dtype == torch.uint8
    grey = (before > 40) & (before < 215)  # three standard deviations from where pixels end
    moved = (after.double() - before.double())[grey] / 255
    assert abs(moved.mean().item()) < 0.01
    assert moved.std().item() == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\x03" + b"\xff" * 12, b"\0\0\x08\xff" + b"\xff" * 2000, b"\0\0\x07\x03"]
)
def test_files_of_absurd_dimensions_are_unreadable(content: bytes, tiny_images: str) -> None:
    (Path(tiny_images) / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    data = MNISTDataModule(data_dir=tiny_images, dataset="FashionMNIST", val_size=50)
    with pytest.raises(RuntimeError, match=r"\(missing: nothing, but unreadable\)") as caught:
        data.prepare_data()
    assert "\n" not in str(caught.value)


def test_a_failed_download_names_the_missing_files_and_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object, **more: object) -> None:
        raise RuntimeError("Error downloading x.gz:\nno route")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    with pytest.raises(RuntimeError) as caught:
        MNISTDataModule(data_dir=str(tmp_path), dataset="KMNIST").prepare_data()
    message = str(caught.value)
    assert "\n" not in message
    assert f"KMNIST is not in {tmp_path}/KMNIST/raw (missing: train-images-idx3-ubyte.gz" in message
    assert "put the files there or use data=mnist" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_size": 60_000}, "val_size must be >= 0 and < 60000"),
        ({"val_size": -1}, "val_size must be >= 0"),
        ({"std": 0.0}, "std must be >= 1e-06 and <= 1000000, got 0.0"),
    ],
)
def test_a_value_out_of_range_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MNISTDataModule(**arguments)  # type: ignore[arg-type]
