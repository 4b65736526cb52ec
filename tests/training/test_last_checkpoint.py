"""A resumed run is bit-identical to an uninterrupted one; when checkpoints are written."""

import random
import shutil
import signal
import time
from pathlib import Path

import lightning
import pytest

from backlit.runs.checkpoint import find_last_checkpoint, read_checkpoint
from backlit.runs.files import new_directory
from backlit.runs.run import Run
from backlit.training.last_checkpoint import LastCheckpoint
from backlit.training.train import train
from tests.conftest import CallCommand, Compose, RunCommand
from tests.helpers.callbacks import signaller
from tests.helpers.commands import compose_config
from tests.helpers.processes import Started, wait_until
from tests.helpers.runs import assert_same_run, change_record, read_record

# Dropout draws numbers at every step; records span checkpoints, and validations come within epochs.
POINTS = ["experiment=points", "data.batch_size=10", "model.dropout=0.1", "model.hidden_sizes=[16]", "scheduler=cosine"]
POINTS += ["data.passes_per_epoch=30", "trainer.max_epochs=3", "trainer.val_check_interval=100"]
POINTS += ["trainer.log_every_n_steps=30"]
# The accuracy does not improve in every epoch; the rate is halved after each in which it does not.
PLATEAU = [*POINTS, "scheduler=plateau", "scheduler.monitor=val/acc", "scheduler.patience=0", "scheduler.factor=0.5"]
FULL_MNIST = ["experiment=mnist_mlp", "model.dropout=0.1", "data.augmentation={degrees: 10}", "trainer.max_epochs=2"]
IMAGES = ["model.dropout=0.1", "data.augmentation={degrees: 10}", "optimizer.lr=0.01", "trainer.max_epochs=4"]
TWO_PROCESSES = ["trainer=ddp_cpu", *POINTS, "process_timeout=60"]
QUIET = ["trainer.accelerator=cpu", "callbacks=none", "checkpoint.every_n_steps=70"]


def interrupt_and_resume(directory: Path, step: int, number: signal.Signals, overrides: list[str]) -> None:
    """Train in a new directory, end the run by a signal at a step, and resume it, all in this process."""
    new_directory(directory)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        with pytest.raises(SystemExit):
            train(compose_config(*overrides, signaller("on_train_batch_end", number, step)), directory)
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_record(directory)["status"] == "interrupted"
    last = directory / "checkpoints" / "last.ckpt"
    assert step <= read_checkpoint(last)["global_step"] <= step + 1
    train(compose_config(*overrides, f"ckpt_path={last}"), directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "step", "number"),
    [
        (POINTS, 437, signal.SIGINT),
        ([*PLATEAU, "callbacks=default"], 600, signal.SIGTERM),
        (["images"], 37, signal.SIGTERM),
        ([*POINTS, "trainer.max_epochs=-1", "trainer.max_steps=800"], 610, signal.SIGINT),
    ],
    ids=["points", "plateau", "images", "max_steps"],
)
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(
    overrides: list[str], step: int, number: signal.Signals, tiny_mnist: list[str], tmp_path: Path
) -> None:
    if overrides == ["images"]:
        overrides = [*tiny_mnist, *IMAGES]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(compose_config(*QUIET, *overrides), new_directory(whole))
    interrupt_and_resume(cut, step, number, [*QUIET, *overrides])
    assert_same_run(cut, whole)
    record = read_record(cut)
    assert record["status"] == "completed"
    assert [attempt["status"] for attempt in record["attempts"]] == ["interrupted"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("overrides", "number"),
    [(POINTS, signal.SIGKILL), pytest.param(TWO_PROCESSES, signal.SIGTERM, marks=pytest.mark.soak)],
)
def test_a_killed_command_is_resumed_bit_identically(
    overrides: list[str], number: signal.Signals, run_command: RunCommand, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = ["backlit-train", *QUIET, *overrides]
    process = Started(*command, f"hydra.run.dir={cut}", directory=tmp_path, together=True)
    wait_until((cut / "checkpoints" / "last.ckpt").exists, process=process)
    process.send_signal(number)
    process.communicate()
    assert Run.read(cut).status == "interrupted"  # type: ignore[union-attr]
    steps = read_checkpoint(cut / "checkpoints" / "last.ckpt")["global_step"]
    assert run_command(*command, f"hydra.run.dir={whole}").returncode == 0
    assert 0 < steps < read_checkpoint(whole / "checkpoints" / "last.ckpt")["global_step"]
    done = run_command("backlit-train", f"resume={cut}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"resumes at step {steps}: cut" in done.stdout
    assert_same_run(cut, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "more"),
    [
        (["trainer.max_epochs=2"], "trainer.max_epochs=3"),
        (["trainer.max_epochs=-1", "trainer.max_steps=800"], "trainer.max_steps=1200"),
    ],
)
def test_a_completed_run_can_be_trained_longer(
    first: list[str], more: str, composed: Compose, call_command: CallCommand, tmp_path: Path
) -> None:
    short, whole = tmp_path / "short", tmp_path / "whole"
    command = [*QUIET, *PLATEAU, "optimizer.lr=1", "test=false", "data.passes_per_epoch=40", *first]
    train(composed(*command), new_directory(short))
    train(composed(*command, more), new_directory(whole))
    change_record(short, arguments=command)  # as the command would have recorded it
    done = call_command("backlit-train", f"resume={short}", more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_run(short, whole)


def test_a_run_without_a_checkpoint_starts_from_its_beginning(points_run: Path, call_command: CallCommand) -> None:
    metrics = (points_run / "metrics.csv").read_text()
    change_record(points_run, status="failed")
    shutil.rmtree(points_run / "checkpoints")
    done = call_command("backlit-train", "resume=latest")
    assert done.returncode == 0, done.stderr
    assert read_record(points_run)["status"] == "completed"
    assert (points_run / "metrics.csv").read_text() == metrics  # nothing twice


def test_no_checkpoint_is_written_where_a_validation_follows(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved, save = [], LastCheckpoint._save

    def keep(callback: LastCheckpoint, trainer: lightning.Trainer, number: int) -> None:
        saved.append(trainer.global_step)
        save(callback, trainer, number)

    monkeypatch.setattr(LastCheckpoint, "_save", keep)
    by_steps = ["trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=30", "trainer.max_epochs=2"]
    config = composed("experiment=points", *QUIET, "checkpoint.every_n_steps=10", "data.passes_per_epoch=40", *by_steps)
    train(config, tmp_path)
    assert saved == [10, 20, 31, 40, 50, 61, 71, 80]  # validations at 30 and 60, epochs end at 40 and 80


@pytest.mark.soak
@pytest.mark.parametrize("overrides", [FULL_MNIST, POINTS, PLATEAU, TWO_PROCESSES])
def test_kills_at_random_moments_change_nothing(
    overrides: list[str], run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the second process imports `Killer`, too
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_command("backlit-train", *QUIET, *overrides, f"hydra.run.dir={whole}").returncode == 0
    steps = read_checkpoint(whole / "checkpoints" / "last.ckpt")["global_step"]
    # How far an attempt gets at most; about a twelfth of the training on average.
    places = {"step": steps // 6, "validation": 4, "half": steps // 420, "rename": steps // 210}
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    random.seed(seed)
    command = [*QUIET, *overrides, f"hydra.run.dir={cut}"]
    for kill in range(1, 12):
        where = random.choice(list(places)) if kill <= 10 else "nowhere"
        number = random.randint(1, places.get(where, 1))
        killer = f"+callbacks.killer={{_target_: tests.helpers.callbacks.Killer, where: {where}, number: {number}}}"
        process = Started("backlit-train", *command, killer, directory=tmp_path, together=True)
        output, _ = process.communicate()
        kept = find_last_checkpoint(cut)
        step = 0 if kept is None else kept.content["global_step"]
        print(f"kill {kill}: {where} {number}, exit code {process.returncode}, kept is step {step}")
        assert process.returncode in (0, -signal.SIGKILL), output
        if process.returncode == 0:
            break
        command = [f"resume={cut}", "packages=[tests]"]
    assert_same_run(cut, whole)
