import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch

from backlit.callbacks.evaluated import Evaluated, Part, evaluated_samples
from backlit.callbacks.pictures import Pictures, draw_test_figures
from backlit.data import MNISTDataModule, PointsDataModule
from backlit.models import BinaryClassifier, MulticlassClassifier


def test_an_interval_below_one_is_rejected() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be >= 1 or null, got 0"):
        Pictures("plots", every_n_steps=0)


def test_images_get_a_confusion_matrix_mistakes_and_the_first_layer() -> None:
    probabilities = torch.eye(10)[:8].roll(1, dims=1)  # sample n is taken for n + 1
    found = Evaluated(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.arange(8), probabilities)
    figures = draw_test_figures(MulticlassClassifier(hidden_sizes=[6]), MNISTDataModule(), found)
    assert set(figures) == {"confusion_matrix", "mistakes", "first_layer"}
    assert figures["confusion_matrix"].axes[0].get_title() == "0 of 8 right"
    assert "8 mistakes in 8" in figures["mistakes"].get_suptitle()


@pytest.mark.parametrize(("sign", "right"), [(1, 30), (-1, 0)])
def test_points_get_the_boundary_of_the_network(sign: int, right: int) -> None:
    data = PointsDataModule(train_size=30, weights=(1.0, 2.0), offset=0.5)
    data.setup("fit")
    model = BinaryClassifier(hidden_sizes=[])
    weight, bias = torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])
    model.net.load_state_dict({"fc1.weight": sign * weight, "fc1.bias": sign * bias})
    test = data.test_set
    figures = draw_test_figures(model, data, Evaluated(test.inputs, test.targets, torch.rand(len(test))))
    assert set(figures) == {"confusion_matrix", "boundary"}
    axes = figures["boundary"].axes[0]
    assert axes.get_title().startswith(f"{right} of 30 training points right")
    shown = axes.images[0].get_array()
    assert shown is not None
    # By hand at two corners: (1, 1) and (-1, 1).
    expected = [1 / (1 + numpy.exp(-sign * logit)) for logit in (3.5, 1.5)]
    assert [shown[-1, -1], shown[-1, 0]] == pytest.approx(expected, rel=1e-5)


def test_the_boundary_of_an_evaluation_has_the_evaluated_points_all_inside_the_picture() -> None:
    data = PointsDataModule(train_size=30, test_size=2000, test_noise=0.5)
    data.setup("test")
    samples = Evaluated(data.test_set.inputs[:1500], data.test_set.targets[:1500], torch.rand(1500))
    figures = draw_test_figures(BinaryClassifier(), data, samples, boundary_of="test")
    axes = figures["boundary"].axes[0]
    assert re.match(r"[\d,]+ of 1,500 test points right", axes.get_title())
    drawn = numpy.concatenate([numpy.asarray(c.get_offsets()) for c in axes.collections[-3:-1]])  # the last: rings
    assert sorted(drawn.tolist()) == sorted(data.test_set.inputs[:1500].tolist())
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < drawn[:, 0].min() < -1 < 1 < drawn[:, 0].max() < right
    assert bottom < drawn[:, 1].min() < -1 < 1 < drawn[:, 1].max() < top


@pytest.mark.parametrize(
    ("batches", "count"), [([], 30), ([3], 30), ([2], 20), ([1], 10)], ids=["not known yet", "all", "two", "one"]
)
def test_pictures_are_of_the_samples_that_the_metrics_are_of(batches: list[int], count: int) -> None:
    data = PointsDataModule(test_size=30, val_size=30, eval_batch_size=10)
    data.setup("test")
    trainer: Any = SimpleNamespace(num_test_batches=batches, num_val_batches=batches)
    parts: tuple[Part, ...] = ("test", "val")
    for part in parts:
        samples = evaluated_samples(trainer, data, part)
        assert samples is not None
        assert torch.equal(samples.inputs, getattr(data, f"{part}_set").inputs[:count])


def test_the_curves_are_drawn_from_the_metrics_file(tmp_path: Path) -> None:
    callback = Pictures(str(tmp_path / "plots"))
    trainer = SimpleNamespace(is_global_zero=True)
    callback.on_fit_end(trainer, BinaryClassifier())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    (tmp_path / "metrics.csv").write_text("step,epoch,train/loss,val/loss,val/acc\n50,0,0.7,,\n100,0,,0.6,0.8\n")
    callback.on_fit_end(trainer, BinaryClassifier())  # type: ignore[arg-type]
    assert (tmp_path / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")
