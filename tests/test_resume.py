import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backlit.run import Run
from backlit.train import train
from tests.conftest import Compose, RunCommand
from tests.processes import Started

# Dropout draws numbers at every step; what is recorded spans checkpoints, and validations come within epochs.
POINTS = ["experiment=points", "data.batch_size=10", "model.dropout=0.1", "model.hidden_sizes=[16]", "scheduler=cosine"]
POINTS += ["trainer.max_epochs=3", "trainer.val_check_interval=300", "trainer.log_every_n_steps=30"]
MNIST = ["experiment=mnist_mlp", "model.dropout=0.1", "data.augmentation={degrees: 10}", "trainer.max_epochs=2"]
QUIET = ["trainer.accelerator=cpu", "callbacks=none", "checkpoint.every_n_steps=70"]


def start(directory: Path, *overrides: str) -> Started:
    command = ["backlit-train", *overrides, *QUIET, f"hydra.run.dir={directory}"]
    return Started(*command, directory=directory.parent, together=True)


def wait_until(condition: Callable[[], bool], process: Started) -> None:
    deadline = time.monotonic() + 100
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def rows(directory: Path) -> int:
    path = directory / "metrics.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


def curves(directory: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(directory / "tensorboard")).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same(directory: Path, whole: Path) -> None:
    assert (directory / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert (directory / "metrics.json").read_text() == (whole / "metrics.json").read_text()
    for name in ("weights.pth", "checkpoints/last.ckpt"):
        one, two = (torch.load(d / name, weights_only=True) for d in (directory, whole))
        one, two = one.get("state_dict", one), two.get("state_dict", two)
        assert all(torch.equal(one[key], two[key]) for key in two)
    assert curves(directory) == curves(whole)


@pytest.mark.parametrize(
    ("overrides", "number"),
    [
        (MNIST, signal.SIGKILL),
        (POINTS, signal.SIGTERM),
        pytest.param(POINTS, signal.SIGINT, marks=pytest.mark.soak),
    ],
)
def test_a_run_that_goes_on_ends_as_if_it_had_not_been_stopped(
    overrides: list[str], number: signal.Signals, composed: Compose, run_command: RunCommand, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    train(composed(*overrides, *QUIET), whole)
    process = start(cut, *overrides)
    wait_until(lambda: rows(cut) > 5 and (cut / "checkpoints" / "last.ckpt").exists(), process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert Run.read(cut).status == "interrupted"  # type: ignore[union-attr]
    steps = torch.load(cut / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < steps < torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    if number != signal.SIGKILL:
        assert steps % 70 or steps % 30  # it was saved when the signal came
    done = run_command("backlit-train", f"resume={cut}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"goes on at step {steps}: cut" in done.stdout
    assert_same(cut, whole)
    record = json.loads((cut / "run.json").read_text())
    assert record["status"] == "completed"
    assert [attempt["status"] for attempt in record["attempts"]] == ["interrupted"]


def test_a_completed_run_can_be_trained_longer(composed: Compose, run_command: RunCommand, tmp_path: Path) -> None:
    short, whole = tmp_path / "short", tmp_path / "whole"
    for directory, epochs in ((short, 1), (whole, 2)):
        directory.mkdir()
        train(composed(*POINTS, *QUIET, "scheduler=none", "test=false", f"trainer.max_epochs={epochs}"), directory)
    # As the command would have recorded it.
    record = json.loads((short / "run.json").read_text())
    record["arguments"] = [*POINTS, *QUIET, "scheduler=none", "test=false", "trainer.max_epochs=1"]
    (short / "run.json").write_text(json.dumps(record))
    refused = run_command("backlit-train", f"resume={short}")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: resume must be a run that is not completed, got short; for more: backlit-train resume=short"
        " trainer.max_epochs=...\n"
    )
    done = run_command("backlit-train", f"resume={short}", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same(short, whole)


def test_without_a_checkpoint_a_run_starts_anew(run_command: RunCommand, tmp_path: Path) -> None:
    quick = ["experiment=points", "data.passes_per_epoch=10", "trainer.max_epochs=1", "callbacks=none"]
    assert run_command("backlit-train", *quick).returncode == 0
    (path,) = tmp_path.glob("outputs/points/runs/*/run.json")
    path.write_text(path.read_text().replace('"completed"', '"failed"'))
    shutil.rmtree(path.parent / "checkpoints")
    done = run_command("backlit-train", "resume=latest")
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text())["status"] == "completed"
    assert rows(path.parent) == 4  # header, step, epoch, test: nothing twice


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=nowhere"], "resume must be a run directory or 'latest', got nowhere, which has no run.json"),
        (["resume=latest"], "resume=latest: there is no run in "),
    ],
)
def test_a_bad_resume_starts_nothing(
    arguments: list[str], message: str, run_command: RunCommand, tmp_path: Path
) -> None:
    done = run_command("backlit-train", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("outputs/*"))


def is_training(directory: Path, pid: int) -> bool:
    run = Run.read(directory)
    return run is not None and run.record["pid"] == pid and "planned_steps" in run.record


@pytest.mark.soak
@pytest.mark.parametrize("overrides", [MNIST, POINTS])
def test_ten_kills_at_random_moments_change_nothing(
    overrides: list[str], composed: Compose, run_command: RunCommand, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    train(composed(*overrides, *QUIET), whole)
    random.seed(time.time_ns())
    process = start(cut, *overrides)
    for kill in range(10):
        wait_until(lambda: is_training(cut, process.pid), process)  # noqa: B023
        time.sleep(random.uniform(0, 0.25))
        process.kill()
        process.communicate(timeout=60)
        stage = Run.read(cut)
        assert stage is not None
        last = cut / "checkpoints" / "last.ckpt"
        step = torch.load(last, weights_only=True)["global_step"] if last.exists() else None
        print(f"kill {kill}: status {stage.status}, rows {rows(cut)}, checkpoint of step {step}")
        if stage.status == "completed":
            break
        process = Started("backlit-train", f"resume={cut}", directory=tmp_path, together=True)
    process.communicate(timeout=100)
    assert Run.read(cut).status == "completed"  # type: ignore[union-attr]
    assert_same(cut, whole)
