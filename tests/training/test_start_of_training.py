"""The steps that are planned, and the schedule that belongs to them, when a run starts or resumes."""

import math
import signal
from pathlib import Path

import pytest

from backlit.runs.files import new_directory
from backlit.training.train import train
from tests.conftest import Compose
from tests.helpers.callbacks import signaller
from tests.helpers.runs import csv_curve, read_record

# Ten steps an epoch, each of which is recorded.
SHORT = ["experiment=points", "trainer=cpu", "callbacks=none", "logger=csv", "test=false", "data.passes_per_epoch=10"]
SHORT += ["trainer.log_every_n_steps=1", "trainer.max_epochs=2"]


@pytest.mark.parametrize(
    ("more", "total"),
    [
        (["trainer.max_epochs=4"], 40),
        (["trainer.max_epochs=4", "trainer.limit_train_batches=5"], 30),
        (["trainer.max_epochs=4", "trainer.accumulate_grad_batches=4"], 26),
        (["trainer.max_epochs=9", "trainer.max_steps=33"], 33),
    ],
)
def test_a_completed_run_resumes_with_the_schedule_of_its_new_length(
    more: list[str], total: int, composed: Compose, tmp_path: Path
) -> None:
    run = new_directory(tmp_path / "run")
    train(composed(*SHORT, "scheduler=cosine"), run)
    assert read_record(run)["planned_steps"] == 20
    train(composed(*SHORT, "scheduler=cosine", *more, f"ckpt_path={run}/checkpoints/last.ckpt"), run)
    record = read_record(run)
    assert (record["first_step"], record["planned_steps"]) == (20, total)
    rates = dict(csv_curve(run, "lr"))  # after each step, so of the next one
    assert max(rates) == total
    assert [rates[step] for step in range(1, 21)] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * step / 20)) for step in range(1, 21)]
    )
    assert [rates[step] for step in range(21, total + 1)] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * step / total)) for step in range(21, total + 1)]
    )


def test_a_schedule_ends_with_a_training_that_accumulates_more_and_more(composed: Compose, tmp_path: Path) -> None:
    target = "lightning.pytorch.callbacks.GradientAccumulationScheduler"
    more = f"+callbacks.accumulation={{_target_: {target}, scheduling: {{1: 4}}}}"
    train(composed(*SHORT, "scheduler=cosine", more), tmp_path)
    assert read_record(tmp_path)["planned_steps"] == 13  # 10, and 4 + 4 + 2 batches
    step, rate = csv_curve(tmp_path, "lr")[-1]
    assert (step, rate) == (13, 0)


@pytest.mark.parametrize("scheduler", ["one_cycle", "step"])
def test_other_schedules_can_be_made_longer_too(scheduler: str, composed: Compose, tmp_path: Path) -> None:
    run, whole = new_directory(tmp_path / "run"), new_directory(tmp_path / "whole")
    train(composed(*SHORT, f"scheduler={scheduler}"), run)
    longer = [*SHORT, f"scheduler={scheduler}", "trainer.max_epochs=4"]
    train(composed(*longer, f"ckpt_path={run}/checkpoints/last.ckpt"), run)
    train(composed(*longer), whole)
    assert csv_curve(run, "lr")[20:] == csv_curve(whole, "lr")[20:]
    assert read_record(run)["status"] == "completed"


@pytest.mark.parametrize(("more", "total"), [([], 40), (["trainer.max_epochs=3"], 30)])
def test_a_run_that_resumes_within_an_epoch_plans_what_is_left(
    more: list[str], total: int, composed: Compose, tmp_path: Path
) -> None:
    run = new_directory(tmp_path / "run")
    overrides = [*SHORT, "scheduler=cosine", "trainer.max_epochs=4", "trainer.accumulate_grad_batches=1"]
    with pytest.raises(SystemExit):
        train(composed(*overrides, signaller("on_train_batch_end", signal.SIGTERM, 14)), run)
    train(composed(*overrides, *more, f"ckpt_path={run}/checkpoints/last.ckpt"), run)
    record = read_record(run)
    assert (record["first_step"], record["planned_steps"]) == (14, total)
    step, rate = csv_curve(run, "lr")[-1]
    assert (step, rate) == (total, 0)
