from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from backlit.callbacks import pictures
from backlit.data import PointsDataModule, TensorPairs
from backlit.models import BinaryClassifier, MulticlassClassifier


def test_the_confusion_matrix_counts() -> None:
    chances = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 2, 2, 2]), 3).float()
    figure = pictures.draw_confusion_matrix(chances, torch.tensor([0, 1, 0, 2, 2, 1]), ["a", "b", "c"])
    (axes,) = figure.axes
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "1", (1, 0): "1", (1, 1): "1", (2, 1): "1", (2, 2): "2"}
    assert axes.get_title() == "4 of 6 right"


def test_mistakes_are_sorted_by_confidence() -> None:
    chances = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    samples = TensorPairs(torch.zeros(4, 1, 3, 3, dtype=torch.uint8), torch.tensor([1, 1, 0, 1]))
    figure = pictures.draw_mistakes(samples, chances, ["zero", "one"], count=4)
    (axes,) = figure.axes
    assert "3 mistakes in 4" in axes.get_title()
    assert [text.get_text() for text in axes.texts] == [
        "one → zero (0.900)",
        "zero → one (0.800)",
        "one → zero (0.600)",
    ]


def test_the_boundary_shows_the_given_line_and_rings_what_is_wrong() -> None:
    data = PointsDataModule(train_size=30, weights=(1.0, 2.0), offset=0.5)
    data.setup("fit")
    model = BinaryClassifier(hidden_sizes=[])
    model.net.load_state_dict({"fc1.weight": torch.tensor([[1.0, 2.0]]), "fc1.bias": torch.tensor([0.5])})
    figure = pictures.draw_boundary(model, data, resolution=20)
    axes = figure.axes[0]
    assert axes.get_title().startswith("30 of 30 training points right")
    x, y = (torch.as_tensor(part) for part in axes.lines[0].get_data())
    assert torch.allclose(x + 2 * y + 0.5, torch.zeros(2, dtype=torch.float64), atol=1e-9)
    model.net.load_state_dict({"fc1.weight": torch.tensor([[-1.0, -2.0]]), "fc1.bias": torch.tensor([-0.5])})
    rings = [c for c in pictures.draw_boundary(model, data, 20).axes[0].collections if isinstance(c, PathCollection)]
    assert numpy.asarray(rings[-1].get_offsets()).shape == (30, 2)


def test_predictions_do_not_depend_on_the_chunk() -> None:
    data = PointsDataModule(train_size=50, eval_batch_size=7)
    data.setup("fit")
    model = BinaryClassifier(dropout=0.5).train()
    chances = pictures.predict(model, data, data.train_set.inputs)
    assert model.training
    with torch.no_grad():
        expected = model.eval()(data.train_set.inputs.float()).sigmoid()
    assert torch.allclose(chances, expected)


def test_the_first_layer_is_shown_strongest_first() -> None:
    weights = torch.zeros(5, 4)
    weights[3] = 2.0
    weights[1] = 1.0
    figure = pictures.draw_first_layer(weights, torch.Size([2, 2]), count=2)
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    values = shown[~numpy.isnan(shown)]
    assert values.tolist() == [2, 2, 1, 1, 2, 2, 1, 1]  # two tiles of 2 x 2 beside each other, row by row


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_tiles_are_the_images(count: int, columns: int, gap: int) -> None:
    images = torch.arange(count * 6, dtype=torch.float32).reshape(count, 2, 3)
    grid = pictures.tile(images, columns, gap)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = gap + row * (2 + gap), gap + column * (3 + gap)
        assert grid[top : top + 2, left : left + 3].tolist() == image.tolist()
    assert numpy.nansum(grid) == images.sum()


def test_curves_are_drawn_from_the_metrics_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,train/loss,val/loss,val/acc\n50,0,0.7,,\n100,0,0.5,,\n100,0,,0.6,0.8\n")
    loss, accuracy = pictures.draw_curves(path).axes
    assert [(line.get_label(), numpy.asarray(line.get_xdata()).tolist()) for line in loss.lines] == [
        ("train/loss", [50, 100]),
        ("val/loss", [100]),
    ]
    assert [line.get_label() for line in accuracy.lines] == ["val/acc"]


def test_a_wrong_interval_is_named() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be >= 1 or null, got 0"):
        pictures.Pictures("plots", every_n_steps=0)


def test_multiclass_figures_fit_images() -> None:
    from backlit.data import MNISTDataModule

    data = MNISTDataModule(eval_batch_size=5)
    samples = TensorPairs(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.arange(8))
    figures = pictures.draw(MulticlassClassifier(hidden_sizes=[6]), data, samples)
    assert set(figures) == {"confusion_matrix", "mistakes", "first_layer"}
