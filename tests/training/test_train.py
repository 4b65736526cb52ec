"""Whole trainings: against the reference, twice the same, on tiny images, in other precisions."""

import json
import math
import runpy
from pathlib import Path

import matplotlib.image
import numpy
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backlit.data import PointsDataModule
from backlit.evaluate import evaluate
from backlit.runs.files import new_directory
from backlit.runs.run import read_rows
from backlit.training.train import train
from tests.conftest import Compose
from tests.helpers.commands import QUICK
from tests.helpers.networks import SimpleNet, SimpleNN
from tests.helpers.runs import csv_curve, only_run, read_record, saved_metrics

REFERENCE = Path(__file__).parents[2] / "benchmarks" / "reference"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib")  # the reference imports pyplot
def test_points_follow_the_reference_program_at_every_step(composed: Compose) -> None:
    reference = runpy.run_path(str(REFERENCE / "points.py"))
    train(composed("experiment=points", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu"))
    run = only_run()
    losses = csv_curve(run, "train/loss")
    assert [step for step, _ in losses] == list(range(1, 1001))
    assert numpy.abs(numpy.array([loss for _, loss in losses]) - reference["losses"]).max() < 1e-5
    for step, value in ((1, 0.66128), (100, 0.39206), (500, 0.09916), (1000, 0.06534)):
        assert losses[step - 1][1] == pytest.approx(value, abs=5e-6)
    # The weights load into the reference's own class; 98 of the 100 points are right, as there.
    model = type(reference["model"])()
    model.load_state_dict(torch.load(run / "weights.pth", weights_only=True))
    right = (model(reference["X_tensor"]) > 0.5) == (reference["Y_tensor"] > 0.5)
    assert int(right.sum()) == 98
    for name, value in reference["model"].state_dict().items():
        assert torch.allclose(model.state_dict()[name], value, atol=1e-5)


def test_a_run_directory_is_complete(images_run: Path) -> None:
    run, metrics = images_run, saved_metrics(images_run)
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    plots = {f"plots/{name}.png" for name in ("confusion_matrix", "mistakes", "first_layer", "curves")}
    expected = {
        *(f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")),
        "train.log",
        "run.json",
        "metrics.json",
        "metrics.csv",
        "weights.pth",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
    }
    files -= {".lock", "uncommitted.diff"}  # while it ran; of a checkout that somebody works in
    events = {name for name in files if name.startswith("tensorboard/")}
    assert files - events == expected | plots
    assert [sum(name.endswith(suffix) for name in events) for suffix in ("", ".start", ".end")] == [3, 1, 1]

    record = read_record(run)
    assert (record["status"], record["seed"], record["device"], record["world_size"]) == ("completed", 0, "cpu", 1)
    assert record["precision"] == "32-true"
    assert record["duration_s"] > 0

    saved = json.loads((run / "metrics.json").read_text())
    assert saved["checkpoint"]["test/acc"] == "checkpoints/best.ckpt"
    assert saved["checkpoint"]["train/loss"] == "checkpoints/last.ckpt"
    assert metrics["val/acc_best"] == max(value for _, value in csv_curve(run, "val/acc"))

    assert (run / "metrics.csv").read_text().startswith("step,epoch,")
    assert [step for step, _ in csv_curve(run, "train/loss")] == [5, 10, 15, 20, 25, 30]
    assert [step for step, _ in csv_curve(run, "val/acc")] == [15, 30]
    assert [step for step, _ in csv_curve(run, "test/acc")] == [30]

    for checkpoint in (run / "checkpoints").iterdir():
        content = torch.load(checkpoint, weights_only=True)
        assert content["hyper_parameters"]["hidden_sizes"] == [128, 64]
    net = SimpleNN()
    net.load_state_dict(torch.load(run / "weights.pth", weights_only=True))
    for plot in (run / "plots").iterdir():
        picture = matplotlib.image.imread(plot)
        assert min(picture.shape[:2]) > (30 if plot.name == "mistakes.png" else 300), plot  # there are none
        assert picture.std() > 0.02


def test_tensorboard_has_curves_pictures_histograms_graph_and_hparams(images_run: Path) -> None:
    run, metrics = images_run, saved_metrics(images_run)
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"histograms": 0}).Reload()
    tags = events.Tags()
    found = [(event.step, event.value) for event in events.Scalars("val/acc")]
    assert found == [(step, pytest.approx(value)) for step, value in csv_curve(run, "val/acc")]
    assert [event.step for event in events.Scalars("train/loss")] == [5, 10, 15, 20, 25, 30]
    assert set(tags["images"]) == {"confusion_matrix", "mistakes", "first_layer"}
    assert {"weights/fc1.weight", "gradients/fc3.bias"} <= set(tags["histograms"])
    assert [event.step for event in events.Histograms("gradients/fc1.weight")] == [0, 10, 20]
    assert tags["graph"]
    # What HParams shows as metrics.
    assert events.Scalars("val/acc_best")[-1].value == pytest.approx(metrics["val/acc_best"])
    assert events.Scalars("test/acc")[-1].value == pytest.approx(metrics["test/acc"])
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"optimizer/lr" in plugin
    assert b"data/batch_size" in plugin


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["points", "tiny_mnist"])
def test_the_same_seed_gives_the_same_weights_to_the_bit(
    experiment: str, tiny_mnist: list[str], composed: Compose, tmp_path: Path
) -> None:
    small = ["experiment=points", "data.batch_size=30", "data.passes_per_epoch=5", "trainer.accelerator=cpu"]
    overrides = small if experiment == "points" else [*tiny_mnist, "model.dropout=0.3"]
    weights = []
    for name in ("first", "second", "other"):
        directory = new_directory(tmp_path / name)
        train(composed(*overrides, f"seed={int(name == 'other')}", "callbacks=none"), directory)
        weights.append(torch.load(directory / "weights.pth", weights_only=True))
    first, second, other = weights
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_evaluate_returns_the_metrics_of_the_run(points_run: Path, composed: Compose) -> None:
    found = evaluate(composed("run=latest", "trainer.accelerator=cpu", config_name="evaluate"))
    assert found == {name: value for name, value in saved_metrics(points_run).items() if name.startswith("test/")}
    assert len(found) >= 2


def test_the_tested_weights_are_the_best_by_validation(tiny_mnist: list[str], composed: Compose) -> None:
    train(composed(*tiny_mnist, "callbacks=none", "optimizer.lr=0.02", "trainer.max_epochs=6", "logger=csv"))
    run = only_run("mnist_mlp")
    accuracies, losses = ([value for _, value in csv_curve(run, f"val/{name}")] for name in ("acc", "loss"))
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    # Of equal accuracies, the one with the lowest loss.
    assert best["epoch"] == max(range(6), key=lambda epoch: (accuracies[epoch], -losses[epoch]))
    exported = torch.load(run / "weights.pth", weights_only=True)
    assert all(torch.equal(best["state_dict"][f"net.{name}"], value) for name, value in exported.items())
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 5
    assert not (run / "tensorboard").exists()


def test_without_validation_the_last_weights_are_tested_and_the_log_says_so(
    tiny_mnist: list[str], composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    metrics = train(composed(*tiny_mnist, "data.val_size=0", "callbacks=none"))
    run = only_run("mnist_mlp")
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}
    assert json.loads((run / "metrics.json").read_text())["checkpoint"]["test/acc"] == "checkpoints/last.ckpt"
    assert "no validation took place, so there is no best checkpoint; the last weights are tested" in caplog.text
    assert not any(name.startswith("val/") for name in metrics)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
@pytest.mark.parametrize("only_weights", [False, True])
def test_a_new_run_starts_with_the_weights_of_another_and_is_otherwise_what_its_config_says(
    only_weights: bool, precision: str, composed: Compose
) -> None:
    first, second = new_directory(Path("first")), new_directory(Path("second"))
    overrides = [*QUICK, "test=false", "logger=csv", "data.batch_size=30", f"trainer.precision={precision}"]
    train(composed(*overrides, "scheduler=cosine", "trainer.max_epochs=3"), first)
    checkpoint = first / "checkpoints" / "last.ckpt"
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    if only_weights:
        checkpoint = Path("weights.ckpt")
        torch.save({"state_dict": state}, checkpoint)
    # Another optimizer, and fewer epochs than the checkpoint has.
    new = ["optimizer=adam", "optimizer.lr=0.02", "seed=7", "trainer.log_every_n_steps=1", "trainer.max_epochs=1"]
    train(composed(*overrides, *new, f"ckpt_path={checkpoint}"), second)
    rows = read_rows(second / "metrics.csv")
    assert {row["lr"] for row in rows if "lr" in row} == {0.02}
    assert [row["step"] for row in rows if "lr" in row] == list(range(1, 68))
    assert {row["epoch"] for row in rows} == {0}
    assert [row["val/loss_best"] == row["val/loss"] for row in rows if "val/loss" in row] == [True]
    record = read_record(second)
    assert (record["first_step"], record["planned_steps"]) == (0, 67)

    # The first epoch of plain PyTorch: these weights, Adam, batches in the order of the new seed.
    data = PointsDataModule(seed=7, batch_size=30, passes_per_epoch=20)
    data.setup("fit")
    dtype = torch.float64 if precision == "64-true" else torch.float32
    net = SimpleNet().to(dtype)
    net.load_state_dict({name.removeprefix("net."): state[name] for name in state if name.startswith("net.")})
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for points, labels in data.train_dataloader():
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(net(points.to(dtype)).squeeze(1), labels.to(dtype)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, value in torch.load(second / "weights.pth", weights_only=True).items():
        assert torch.allclose(value, net.state_dict()[name], atol=1e-5), name


def test_a_checkpoint_can_be_tested_alone(images_run: Path, composed: Compose) -> None:
    checkpoint = images_run / "checkpoints" / "best.ckpt"
    overrides = [*read_record(images_run)["arguments"], "train=false", f"ckpt_path={checkpoint}"]
    tested = train(composed(*overrides), new_directory(Path("test")))
    assert tested == {name: value for name, value in saved_metrics(images_run).items() if name.startswith("test/")}
    assert len(tested) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions_learn_about_the_same(precision: str, tiny_mnist: list[str], composed: Compose) -> None:
    metrics = train(composed(*tiny_mnist, "callbacks=none", f"trainer.precision={precision}"))
    assert metrics["test/acc"] > 0.9
    assert math.isfinite(metrics["test/loss"])


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "loss"), [("64-true", 1e-4), ("bf16-mixed", 0.01), ("bf16-true", 0.15)])
def test_points_in_other_precisions_end_near_the_reference(precision: str, loss: float, composed: Compose) -> None:
    metrics = train(composed("experiment=points", "trainer=cpu", "callbacks=none", f"trainer.precision={precision}"))
    assert metrics["train/loss"] == pytest.approx(0.06534, abs=loss + 1e-3)  # the mean over the last 50 steps
    assert metrics["test/acc"] == pytest.approx(0.985, abs=0.02)


@pytest.mark.filterwarnings("default:You passed `Trainer")
def test_half_precision_on_a_cpu_says_what_it_does(
    tiny_mnist: list[str], composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    train(composed(*QUICK, "trainer.precision=16-mixed", "test=false"))
    assert "fp16 is not supported on CPU. Using `precision='bf16-mixed'` instead" in caplog.text
    assert read_record(only_run())["precision"] == "bf16-mixed"
    with pytest.raises(FloatingPointError, match=r"eps is 0 in it: try trainer.precision=bf16-true"):
        train(composed(*tiny_mnist, "trainer.precision=16-true"))


@pytest.mark.slow
@pytest.mark.parametrize("debug", ["fast", "limit", "overfit", "default", "profiler"])
def test_debug_options_run(debug: str, tiny_mnist: list[str], composed: Compose) -> None:
    overrides = [override for override in tiny_mnist if "max_epochs" not in override]
    limits = ["trainer.max_epochs=2"] if debug == "overfit" else []
    metrics = train(composed(*overrides, f"debug={debug}", "callbacks=none", *limits))
    assert "test/acc" in metrics
    if debug == "profiler":
        assert "run_training_batch" in (only_run("debug") / "fit-profile.txt").read_text()
    assert (only_run("debug") / "checkpoints").exists() == (debug != "fast")
