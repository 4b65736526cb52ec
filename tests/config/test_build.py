import lightning
import pytest

from backlit.config.build import followed
from backlit.data import MNISTDataModule, PointsDataModule
from backlit.models import BinaryClassifier, MulticlassClassifier


def test_what_is_null_in_a_model_follows_the_data() -> None:
    null = {"in_features": None, "input_shape": None, "num_classes": None, "dropout": None}
    assert followed(null, MNISTDataModule()) == {"in_features": 784, "input_shape": (1, 28, 28), "num_classes": 10}
    assert followed({"in_features": None, "num_classes": 3}, PointsDataModule()) == {"in_features": 2}


def test_a_network_is_given_what_the_data_do_not_have() -> None:
    assert followed({"num_classes": None}, lightning.LightningDataModule()) == {}
    with pytest.raises(
        ValueError, match=r"^in_features and num_classes must be given, since the data do not have them"
    ):
        MulticlassClassifier(in_features=None)
    with pytest.raises(ValueError, match=r"^in_features must be given, since the data do not have it"):
        BinaryClassifier(in_features=None)
