"""What a run is judged by: the figures of its training, intervals, other data."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from backlit import load_run
from backlit.evaluate import draw_calibration, draw_roc, evaluate, intervals, per_class
from backlit.train import train
from tests.conftest import Compose, RunCommand

QUICK = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "trainer.max_epochs=2", "callbacks=none"]


@pytest.fixture
def run(composed: Compose) -> Path:
    train(composed(*QUICK, "logger=csv"))
    (directory,) = Path("outputs/points/runs").iterdir()
    return directory


def told(directory: Path | str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(directory) / "evaluation.json").read_text())
    return content


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "bf16-true"])
def test_the_figures_are_those_of_the_training_to_the_bit(
    precision: str, composed: Compose, run_command: RunCommand
) -> None:
    metrics = train(composed(*QUICK, "logger=csv", f"trainer.precision={precision}"))
    done = run_command("backlit-evaluate", "run=latest", "resamples=20", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    (directory,) = Path().glob("outputs/points/runs/*/evaluations/*")
    found = told(directory)
    assert found["metrics"] == {name: value for name, value in metrics.items() if name.startswith("test/")}
    pictures = {"boundary.png", "calibration.png", "confusion_matrix.png", "roc.png"}
    assert {path.name for path in directory.iterdir()} == {"evaluation.json", *pictures}
    for name, (low, high) in found["intervals"].items():
        assert low < high, name
    assert found["intervals"]["test/acc"][0] < metrics["test/acc"] < found["intervals"]["test/acc"][1]
    assert [row["class"] for row in found["classes"]] == ["0", "1"]
    assert sum(row["samples"] for row in found["classes"]) == 10_000


def test_intervals_are_those_of_the_binomial(run: Path) -> None:
    model: Any = load_run(run).model
    right = torch.arange(1000) < 900
    targets = torch.arange(1000) % 2
    probabilities = torch.where(right, targets, 1 - targets) * 0.8 + 0.1
    torch.manual_seed(0)
    low, high = intervals(model, probabilities, targets, 1000)["test/acc"]
    # A share of 0.9 among 1,000 has a standard error of sqrt(0.9 * 0.1 / 1000) = 0.0095.
    assert low == pytest.approx(0.9 - 1.96 * 0.0095, abs=0.003)
    assert high == pytest.approx(0.9 + 1.96 * 0.0095, abs=0.003)
    assert intervals(model, probabilities, targets, 0) == {}


def test_each_class_has_its_figures() -> None:
    predicted = torch.tensor([0, 0, 1, 1, 1, 2])
    targets = torch.tensor([0, 1, 1, 1, 2, 2])
    rows = per_class(torch.nn.functional.one_hot(predicted).float(), targets, ["a", "b", "c"], 50)
    assert [row["samples"] for row in rows] == [1, 3, 2]
    assert [row["precision"] for row in rows] == pytest.approx([1 / 2, 2 / 3, 1])
    assert [row["recall"] for row in rows] == pytest.approx([1, 2 / 3, 1 / 2])
    assert [row["f1"] for row in rows] == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    assert all(row["recall_interval"][0] <= row["recall"] <= row["recall_interval"][1] for row in rows)


def points_of(figure: Figure) -> list[tuple[float, float]]:
    shown: Any = figure.axes[0].lines[-1].get_xydata()
    return [(round(float(x), 6), round(float(y), 6)) for x, y in shown]


def test_curves_show_what_they_are_to_show() -> None:
    # Sure to 0.9 and right in 3 of 4; sure to 0.6 and right in 1 of 2.
    probabilities = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    targets = torch.tensor([1, 1, 1, 0, 1, 0])
    assert points_of(draw_calibration(probabilities, targets)) == [(0.6, 0.5), (0.9, 0.75)]
    roc = draw_roc(probabilities, targets, ["no", "yes"])
    assert points_of(roc) == [(0, 0), (0.5, 0.75), (1, 1)]
    assert len(draw_roc(torch.eye(3), torch.arange(3), ["a", "b", "c"]).axes[0].lines) == 3


def test_other_points_are_judged(run: Path, run_command: RunCommand) -> None:
    done = run_command("backlit-evaluate", f"run={run}", "data.weights=[-1,-1]", "resamples=0", "output_dir=turned")
    assert done.returncode == 0, done.stderr
    whole = json.loads((run / "metrics.json").read_text())["metrics"]
    # The same points with the classes exchanged: right is wrong.
    assert told("turned")["metrics"]["test/acc"] == pytest.approx(1 - whole["test/acc"], abs=1e-6)
    assert "95 %" in done.stdout
    assert told("turned")["intervals"] == {}


def test_other_images_are_prepared_as_those_that_were_learned(
    tiny_mnist: list[str], composed: Compose, run_command: RunCommand
) -> None:
    metrics = train(composed(*tiny_mnist, "callbacks=none", "logger=csv"))
    data_dir, val_size = (o for o in tiny_mnist if o.startswith(("data.data_dir", "data.val_size")))
    same = ["run=latest", "data=fashion_mnist", data_dir, val_size, "resamples=0"]
    done = run_command("backlit-evaluate", *same, "output_dir=f")
    assert done.returncode == 0, done.stderr
    assert "data.mean=0.5, as it was trained" in done.stdout
    assert told("f")["metrics"]["test/acc"] == metrics["test/acc"]
    other = run_command("backlit-evaluate", *same, "data.mean=0.9", "output_dir=other")
    assert "data.std=0.5, as it was trained" in other.stdout
    assert "data.mean=" not in other.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=mnist", "data.dataset=KMNIST"], "KMNIST is not in "),
        (["data.margin=9"], "data.margin must be >= 0 and <= "),
        (["data.nope=1"], "data.nope: no such key"),
        (["resamples=-1"], "resamples must be a whole number >= 0, got -1"),
        (["resamples=true"], "resamples must be a whole number >= 0, got True"),
        (["seed=abc"], "seed must be a whole number >= 0, got abc"),
        (["packages=abc"], "packages must be a list, got abc: packages=[abc]"),
        (["+trainer.foo=1"], "Trainer.__init__() got an unexpected keyword argument 'foo'"),
        (["trainer=ddp_cpu"], "trainer.devices must be 1: one process judges, got 2"),
        (["checkpoint=first"], "checkpoint must be one that "),
        (["trainer=gpu"], "trainer"),
        (["output_dir=/proc/none"], "output_dir must be a directory that can be written, got /proc/none"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, run: Path, run_command: RunCommand) -> None:
    done = run_command("backlit-evaluate", f"run={run}", "resamples=0", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"error: {message}") or message == "trainer"
    assert done.stderr.count("\n") == 1
    assert not list(run.glob("evaluations/*"))


def test_from_python(run: Path, composed: Compose) -> None:
    metrics = evaluate(composed("run=latest", "trainer=cpu", "resamples=0", "data=points", config_name="evaluate"))
    whole = json.loads((run / "metrics.json").read_text())["metrics"]
    assert metrics["test/loss"] == whole["test/loss"]
