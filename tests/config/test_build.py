import lightning
import pytest

from backlit.config.build import followed
from backlit.data import MNISTDataModule, PointsDataModule


def test_what_is_null_in_a_model_follows_the_data() -> None:
    null = {"in_features": None, "input_shape": None, "num_classes": None, "dropout": None}
    assert followed(null, MNISTDataModule()) == {"in_features": 784, "input_shape": (1, 28, 28), "num_classes": 10}
    assert followed({"in_features": None, "num_classes": 3}, PointsDataModule()) == {"in_features": 2}


def test_data_that_do_not_say_it_and_data_of_no_images_are_named() -> None:
    with pytest.raises(ValueError, match=r"^num_classes must be given for data without num_classes \(LightningData"):
        followed({"num_classes": None}, lightning.LightningDataModule())
    with pytest.raises(ValueError, match=r"^input_shape must be one of images, .*, got \(2,\)$"):
        followed({"input_shape": None}, PointsDataModule())
