import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backlit.callbacks import LastCheckpoint
from backlit.load import last_checkpoint, read_checkpoint
from backlit.run import Run
from backlit.train import train
from tests.conftest import Compose, RunCommand
from tests.processes import Started

# Dropout draws numbers at every step; what is recorded spans checkpoints, and validations come within epochs.
POINTS = ["experiment=points", "data.batch_size=10", "model.dropout=0.1", "model.hidden_sizes=[16]", "scheduler=cosine"]
POINTS += ["trainer.max_epochs=3", "trainer.val_check_interval=300", "trainer.log_every_n_steps=30"]
MNIST = ["experiment=mnist_mlp", "model.dropout=0.1", "data.augmentation={degrees: 10}", "trainer.max_epochs=2"]
# The best that a falling loss can be is its first value, so the rate is halved after every further epoch.
PLATEAU = [*POINTS, "scheduler=plateau", "scheduler.mode=max", "scheduler.patience=0", "scheduler.factor=0.5"]
TWO_PROCESSES = ["trainer=ddp_cpu", *POINTS, "data.passes_per_epoch=50", "process_timeout=60"]
QUIET = ["trainer.accelerator=cpu", "callbacks=none", "checkpoint.every_n_steps=70"]


def start(directory: Path, *overrides: str) -> Started:
    command = ["backlit-train", *QUIET, *overrides, f"hydra.run.dir={directory}"]
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
        ([*PLATEAU, "callbacks=default"], signal.SIGTERM),
        pytest.param(POINTS, signal.SIGINT, marks=pytest.mark.soak),
        pytest.param(TWO_PROCESSES, signal.SIGTERM, marks=pytest.mark.soak),
    ],
)
def test_a_run_that_goes_on_ends_as_if_it_had_not_been_stopped(
    overrides: list[str], number: signal.Signals, run_command: RunCommand, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_command("backlit-train", *QUIET, *overrides, f"hydra.run.dir={whole}").returncode == 0
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


def test_one_run_is_gone_on_with_by_one_process(run_command: RunCommand, tmp_path: Path) -> None:
    quick = ["experiment=points", "data.passes_per_epoch=20", "callbacks=none", "trainer=cpu", "hydra.run.dir=run"]
    assert run_command("backlit-train", *quick, "trainer.max_epochs=1").returncode == 0
    both = [Started("backlit-train", "resume=run", "trainer.max_epochs=200", directory=tmp_path) for _ in range(2)]
    ended = sorted((process.wait(), process.communicate()[1]) for process in both)
    assert [code for code, _ in ended] == [0, 2]
    told = ended[1][1]
    assert "run is being run by another process" in told or "resume must be a run that has ended" in told
    steps = [int(line.split(",")[0]) for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (["trainer.max_epochs=2"], "trainer.max_epochs=3"),
        (["trainer.max_epochs=-1", "trainer.max_steps=800"], "trainer.max_steps=1200"),
    ],
)
def test_a_completed_run_can_be_trained_longer(
    first: list[str], more: str, composed: Compose, run_command: RunCommand, tmp_path: Path
) -> None:
    short, whole = tmp_path / "short", tmp_path / "whole"
    command = [*PLATEAU, *QUIET, "optimizer.lr=1", "test=false", "data.passes_per_epoch=40", *first]
    for directory, last in ((short, []), (whole, [more])):
        directory.mkdir()
        train(composed(*command, *last), directory)
    # As the command would have recorded it.
    record = json.loads((short / "run.json").read_text())
    record["arguments"] = command
    (short / "run.json").write_text(json.dumps(record))
    refused = run_command("backlit-train", f"resume={short}")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: resume must be a run that is not completed, got short; for more: backlit-train resume=short"
        f" {more.partition('=')[0]}=...\n"
    )
    done = run_command("backlit-train", f"resume={short}", more)
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
        (["resume=nowhere"], "resume must be a run directory or 'latest', got nowhere, which does not exist"),
        (["resume=latest"], "resume=latest: there is no run in "),
        (["resume=run", "optimizer.lr=0.2"], "optimizer.lr must stay as it is when a run goes on; a run of its own"),
        (["resume=run", "data.seed=1"], "data.seed must stay as it is when a run goes on"),
        (["resume=run"], "ckpt_path must fit the model: net.fc1.weight has shape (5, 2) in the model, (4, 2) in the"),
    ],
)
def test_a_bad_resume_starts_nothing(
    arguments: list[str], message: str, composed: Compose, run_command: RunCommand, tmp_path: Path
) -> None:
    if "resume=run" in arguments:  # one whose model no longer fits its command
        quick = ["experiment=points", "data.passes_per_epoch=10", "trainer.max_epochs=1", "trainer=cpu"]
        (tmp_path / "run").mkdir()
        train(composed(*quick, "callbacks=none", "logger=csv"), tmp_path / "run")
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        record |= {"arguments": [*quick, "model.hidden_sizes=[5]"], "status": "failed"}
        (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    before = sorted(tmp_path.rglob("*"))
    done = run_command("backlit-train", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


class Signaller(lightning.Callback):
    """Sends its process a signal, once, when a hook is called."""

    def __init__(self, hook: str, number: signal.Signals) -> None:
        def send(*_: object) -> None:
            setattr(self, hook, lambda *_: None)
            os.kill(os.getpid(), number)

        setattr(self, hook, send)


@pytest.mark.parametrize("hook", ["on_fit_start", "on_validation_start", "on_train_end", "on_fit_end", "on_test_start"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_wherever_it_is(
    hook: str, number: signal.Signals, code: int, composed: Compose, tmp_path: Path
) -> None:
    config = composed(
        *["experiment=points", *QUIET, "data.passes_per_epoch=20", "trainer.max_epochs=1", "packages=[tests]"],
        f"+callbacks.signaller={{_target_: tests.test_resume.Signaller, hook: {hook}, number: {int(number)}}}",
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        with pytest.raises(SystemExit) as ended:
            train(config, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == code
    assert Run.read(tmp_path).status == "interrupted"  # type: ignore[union-attr]


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


class Killer(lightning.Callback):
    """Kills its process: within a training step, in validation, or while a checkpoint is written.

    Args:
        where: ``step``, ``validation``, ``half`` (half of a checkpoint is written), ``rename`` (before a checkpoint, or
            the one before it, gets its name), or ``nowhere``.
        number: At which of them.
    """

    def __init__(self, where: str, number: int) -> None:
        self.where, self.left = where, number

    def strike(self, where: str) -> None:
        if where == self.where:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_train_start(self, *_: object) -> None:
        write, replace = Path.write_bytes, os.replace

        def write_bytes(path: Path, content: Any) -> int:
            if ".ckpt" in path.name:
                write(path, content[: len(content) // 2])
                self.strike("half")
            return write(path, content)

        def rename(source: Any, target: Any) -> None:
            if str(target).endswith(".ckpt"):
                self.strike("rename")
            replace(source, target)

        Path.write_bytes, os.replace = write_bytes, rename  # type: ignore[method-assign,assignment]

    def on_before_optimizer_step(self, *_: object) -> None:
        self.strike("step")

    def on_validation_batch_end(self, *_: object) -> None:
        self.strike("validation")


@pytest.mark.soak
@pytest.mark.parametrize("overrides", [MNIST, POINTS, PLATEAU, TWO_PROCESSES])
def test_kills_at_random_moments_change_nothing(
    overrides: list[str], run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # the second process looks for `Killer`, too
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_command("backlit-train", *overrides, *QUIET, f"hydra.run.dir={whole}").returncode == 0
    steps = read_checkpoint(whole / "checkpoints" / "last.ckpt")["global_step"]
    # How far an attempt gets at most; about a twelfth of the training on average.
    places = {"step": steps // 6, "validation": 4, "half": steps // 420, "rename": steps // 210}
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    random.seed(seed)
    command = [*overrides, *QUIET, f"hydra.run.dir={cut}"]
    for kill in range(1, 12):
        where = random.choice(list(places)) if kill <= 10 else "nowhere"
        number = random.randint(1, places.get(where, 1))
        killer = f"+callbacks.killer={{_target_: tests.test_resume.Killer, where: {where}, number: {number}}}"
        process = Started("backlit-train", *command, killer, directory=tmp_path, together=True)
        output, _ = process.communicate()
        kept = last_checkpoint(cut)
        step = 0 if kept is None else read_checkpoint(kept)["global_step"]
        print(f"kill {kill}: {where} {number}, exit code {process.returncode}, kept is step {step}")
        assert process.returncode in (0, -signal.SIGKILL), output
        if process.returncode == 0:
            break
        command = [f"resume={cut}", "packages=[tests]"]
    assert_same(cut, whole)
