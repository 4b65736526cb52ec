"""Evaluation: the figures of the training, intervals, other data, one line for what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from backlit.evaluate import evaluate
from backlit.inference.evaluation import _write
from backlit.training.train import train
from tests.conftest import CallCommand, Compose, RunCommand
from tests.helpers.commands import QUICK
from tests.helpers.runs import only_run, saved_metrics


def evaluation(directory: Path | str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(directory) / "evaluation.json").read_text())
    return content


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "bf16-true"])
def test_the_metrics_equal_those_of_the_training_bit_for_bit(
    precision: str, composed: Compose, call_command: CallCommand
) -> None:
    metrics = train(composed(*QUICK, "logger=csv", f"trainer.precision={precision}"))
    done = call_command("backlit-evaluate", "run=latest", "resamples=20", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    (directory,) = only_run().glob("evaluations/*")
    found = evaluation(directory)
    assert found["metrics"] == evaluate(composed("run=latest", "resamples=0", "trainer=cpu", config_name="evaluate"))
    assert found["metrics"] == {name: value for name, value in metrics.items() if name.startswith("test/")}
    pictures = {"boundary.png", "calibration.png", "confusion_matrix.png", "roc.png"}
    assert {path.name for path in directory.iterdir()} == {"evaluation.json", *pictures}
    for name, (low, high) in found["intervals"].items():
        assert low < high, name
    low, high = found["intervals"]["test/acc"]
    assert low < metrics["test/acc"] < high
    assert [row["class"] for row in found["classes"]] == ["0", "1"]
    assert sum(row["samples"] for row in found["classes"]) == 10_000


def test_the_command_prints_the_metrics_and_where_the_files_are(points_run: Path, run_command: RunCommand) -> None:
    done = run_command("backlit-evaluate", "run=latest", "resamples=20", "output_dir=out")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{saved_metrics(points_run)['test/acc']:.4f}" in done.stdout
    assert "95 % interval" in done.stdout
    assert "  written   out: evaluation.json, pictures" in done.stdout
    assert f"  weights   {points_run.relative_to(Path.cwd())}/checkpoints/best.ckpt" in done.stdout


@pytest.mark.slow
def test_the_data_of_the_run_can_be_changed(points_run: Path, call_command: CallCommand) -> None:
    turned = ["data.weights=[-1,-1]", "resamples=0", "output_dir=turned"]
    done = call_command("backlit-evaluate", f"run={points_run}", *turned)
    assert done.returncode == 0, done.stderr
    # The same points with the classes exchanged: right is wrong.
    accuracy = saved_metrics(points_run)["test/acc"]
    assert evaluation("turned")["metrics"]["test/acc"] == pytest.approx(1 - accuracy, abs=1e-6)
    assert evaluation("turned")["intervals"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["trainer.limit_test_batches=1", "trainer.fast_dev_run=true"])
def test_a_limit_is_that_of_metrics_intervals_classes_and_pictures(
    flag: str, points_run: Path, call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, Any] = {}

    def keep(cfg: Any, run: Any, found: Any, figures: Any) -> Path:
        shown.update(figures)
        return _write(cfg, run, found, figures)

    monkeypatch.setattr("backlit.inference.evaluation._write", keep)
    small = [f"run={points_run}", flag, "data.eval_batch_size=500", "resamples=20", "output_dir=out"]
    done = call_command("backlit-evaluate", *small)
    assert done.returncode == 0, done.stderr
    found = evaluation("out")
    assert found["samples"] == 500
    assert sum(row["samples"] for row in found["classes"]) == 500
    right = round(found["metrics"]["test/acc"] * 500)
    assert found["metrics"]["test/acc"] == pytest.approx(right / 500, abs=1e-6)
    assert shown["boundary"].axes[0].get_title().startswith(f"{right} of 500 test points right")
    assert shown["confusion_matrix"].axes[0].get_title() == f"{right} of 500 right"
    assert f"500 samples, 15 bins, ECE {found['metrics']['test/ece']:.6f}" in shown["calibration"].axes[0].get_title()
    low, high = found["intervals"]["test/ece"]
    assert low < found["metrics"]["test/ece"] < high


@pytest.mark.slow
def test_other_images_are_prepared_as_in_training_unless_the_command_says_otherwise(
    tiny_images: str, images_run: Path, call_command: CallCommand
) -> None:
    other = ["run=latest", "data=fashion_mnist", f"data.data_dir={tiny_images}", "data.val_size=50", "resamples=0"]
    done = call_command("backlit-evaluate", *other, "output_dir=same")
    assert done.returncode == 0, done.stderr
    assert "data.mean=0.5, as in training" in done.stdout
    assert evaluation("same")["metrics"]["test/acc"] == saved_metrics(images_run)["test/acc"]
    done = call_command("backlit-evaluate", *other, "data.mean=0.9", "output_dir=other")
    assert done.returncode == 0, done.stderr
    assert "data.std=0.5, as in training" in done.stdout
    assert "data.mean=" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=mnist", "data.dataset=KMNIST"], "KMNIST is not in "),
        (["data.margin=9"], "data.margin must be >= 0 and <= "),
        (["data.nope=1"], "data.nope: no such key"),
        (["resamples=-1"], "resamples must be >= 0, got -1"),
        (["resamples=true"], "resamples must be int, got True"),
        (["seed=abc"], "seed must be int, got 'abc'"),
        (["packages=abc"], "packages must be a list, got abc: packages=[abc]"),
        (["+trainer.foo=1"], "trainer.foo: Trainer has no such argument"),
        (["data.train_size=true"], "data.train_size must be int, got True"),
        (["trainer.limit_test_batches=abc"], "trainer.limit_test_batches must be "),
        (["output_dir=0"], "output_dir must be str or null, got 0"),
        (["checkpoint=0"], "checkpoint must be str or null, got 0"),
        (["trainer.max_epochs=3"], "trainer.max_epochs does not change an evaluation; these do: accelerator, "),
        (["trainer.profiler=simple"], "trainer.profiler does not change an evaluation"),
        (["trainer.overfit_batches=1"], "trainer.overfit_batches does not change an evaluation"),
        (["+trainer.logger=true"], "trainer.logger does not change an evaluation"),
        (["trainer.limit_test_batches=0"], "trainer.limit_test_batches must be > 0 or null, got 0"),
        (["trainer.limit_test_batches=0.01"], "trainer.limit_test_batches: You requested to check 0.01 of the"),
        (["trainer.fast_dev_run=0.5"], "trainer.fast_dev_run must be int or bool, got 0.5"),
        (["trainer=ddp_cpu"], "trainer.devices must be 1: one process judges, got 2"),
        (["checkpoint=first"], "checkpoint must be one that "),
        (["trainer=gpu"], "No supported gpu backend found!"),
        (["output_dir=/proc/none"], "output_dir must be a directory that can be written, got /proc/none"),
    ],
)
def test_a_wrong_value_is_reported_in_one_line(
    arguments: list[str], message: str, points_run: Path, call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("no route")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    monkeypatch.setattr("lightning.pytorch.accelerators.CUDAAccelerator.is_available", lambda: False)
    done = call_command("backlit-evaluate", f"run={points_run}", "resamples=0", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"error: {message}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(points_run.glob("evaluations/*"))


def test_data_elsewhere_are_used_only_if_the_command_names_them(
    images_run: Path, image_data: Path, call_command: CallCommand
) -> None:
    command = ["backlit-evaluate", "run=latest", "resamples=0", "trainer=cpu"]
    done = call_command(*command)
    rule = "of this run is where its data were; to use it, type it"
    place = f"data.data_dir={image_data}"
    assert (done.returncode, done.stderr) == (2, f"error: {place} {rule}: {place}\n")
    assert call_command(*command, place).returncode == 0


def test_results_are_not_written_through_a_link(points_run: Path, call_command: CallCommand) -> None:
    Path("victim").mkdir()
    (points_run / "evaluations").symlink_to(Path("victim").resolve())
    done = call_command("backlit-evaluate", "run=latest", "resamples=0", "trainer=cpu")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "evaluations must be a directory of its own, but is a link; choose one: output_dir=...\n"
    )
    assert not list(Path("victim").iterdir())


@pytest.mark.slow
def test_a_call_from_python_takes_other_data(points_run: Path, composed: Compose) -> None:
    cfg = composed("run=latest", "trainer=cpu", "resamples=0", "data=points", config_name="evaluate")
    assert evaluate(cfg)["test/loss"] == saved_metrics(points_run)["test/loss"]
