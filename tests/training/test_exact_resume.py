"""A run that is cut anywhere and resumed equals an uninterrupted one bit for bit, whatever its flags."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backlit.runs.files import new_directory
from backlit.training.train import train
from tests.helpers.callbacks import CutError, cutter
from tests.helpers.commands import compose_config
from tests.helpers.runs import assert_same_run

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:This DataLoader will create",  # more workers than this machine's cores
        "ignore:Trying to infer the `batch_size`",
        "ignore:SWA is currently only supported every epoch",
        "ignore:Precision 16-mixed",
    )
]

# Epochs of 20 steps; checkpoints at every fourth, so that several steps are repeated after a cut.
COMMON = ["trainer.accelerator=cpu", "trainer.max_epochs=4", "trainer.log_every_n_steps=7", "callbacks=none"]
COMMON += ["optimizer=sgd", "optimizer.lr=0.1", "checkpoint.every_n_steps=4"]
POINTS = [*COMMON, "experiment=points", "data.batch_size=10", "data.passes_per_epoch=2", "data.val_size=50"]
POINTS += ["data.test_size=60", "model.dropout=0.1", "model.hidden_sizes=[8]", "optimizer.lr=0.1"]

STEP, LATE, START = ("on_train_batch_start", 28), ("on_train_batch_start", 70), ("on_train_epoch_start", 3)
VALIDATION, TEST, TESTED = ("on_validation_batch_end", 2), ("on_test_batch_end", 1), ("on_test_end", 1)
EVERYWHERE = [[STEP], [LATE], [STEP, STEP], [START], [VALIDATION], [TEST], [TESTED]]


def lightnings(name: str, arguments: str = "") -> str:
    """Return the override that adds a callback of Lightning."""
    return (
        f"+callbacks.more={{{', '.join(filter(None, (f'_target_: lightning.pytorch.callbacks.{name}', arguments)))}}}"
    )


def plain(arguments: str = "") -> list[str]:
    """Return the overrides of a run with a user's own module and data."""
    own = ["~data", "~model", "optimized_metric=val/loss", "optimized_mode=min"]
    own += [f"+data={{{', '.join(filter(None, ('_target_: tests.helpers.plain.PlainData', arguments)))}}}"]
    return [*COMMON, *own, "+model={_target_: tests.helpers.plain.PlainModule}"]


AVERAGING = lightnings("StochasticWeightAveraging", "swa_lrs: 0.05, swa_epoch_start: 1, annealing_epochs: 2")
ACCUMULATION = lightnings("GradientAccumulationScheduler", "scheduling: {0: 1, 1: 2, 2: 3}")
LAST_STEP = ["trainer.max_epochs=-1", "trainer.max_steps=65"]

# One of each kind that once differed; the others are below.
REPRESENTATIVES = {
    "float64": ([*POINTS, "trainer.precision=64-true", lightnings("EMAWeightAveraging")], [STEP]),
    "bfloat16": ([*POINTS, "trainer.precision=bf16-true"], [LATE]),
    "workers": ([*POINTS, "data.num_workers=1", "trainer.max_epochs=2"], [STEP]),
    "while_testing": ([*POINTS, "trainer.max_epochs=1"], [TESTED]),
    "max_steps": ([*POINTS, *LAST_STEP], [TEST]),
    "accumulation": ([*POINTS, ACCUMULATION], [("on_train_batch_start", 66)]),
    "averaging": ([*POINTS, AVERAGING, "scheduler=cosine"], [STEP]),
    "learning_rates": ([*POINTS, lightnings("LearningRateMonitor", "logging_interval: step")], [STEP]),
    "plain_data": ([*plain("seed: 3"), "trainer.max_epochs=3"], [("on_train_batch_start", 10), STEP]),
}

FLAGS = {
    "64-true": ["trainer.precision=64-true"],
    "bf16-true": ["trainer.precision=bf16-true"],
    "bf16-mixed": ["trainer.precision=bf16-mixed"],
    "16-true": ["trainer.precision=16-true"],
    "workers": ["data.num_workers=2"],
    "accumulate_4": ["trainer.accumulate_grad_batches=4"],
    "accumulate_3": ["trainer.accumulate_grad_batches=3"],
    "val_check_interval": ["trainer.val_check_interval=0.25"],
    "check_val_every_n_epoch": ["trainer.check_val_every_n_epoch=2"],
    "val_by_steps": ["trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=13"],
    "limit_train_batches": ["trainer.limit_train_batches=18"],
    "overfit_batches": ["trainer.overfit_batches=18"],
    "max_steps": LAST_STEP,
    "max_time": ["trainer.max_time='00:01:00:00'"],
    "plateau": ["scheduler=plateau", "scheduler.monitor=val/acc", "scheduler.patience=0"],
    "cosine": ["scheduler=cosine"],
    "one_cycle": ["scheduler=one_cycle"],
    "step": ["scheduler=step"],
    "cosine_annealing": ["scheduler=cosine_annealing"],
    "step_lr": ["scheduler=step_lr", "scheduler.step_size=1", "scheduler.gamma=0.5"],
    "exponential": ["scheduler=exponential", "scheduler.interval=step", "scheduler.gamma=0.99"],
    "linear": ["scheduler=linear", "scheduler.total_iters=3"],
    "reduce_on_plateau": ["scheduler=reduce_on_plateau", "scheduler.monitor=val/acc", "scheduler.patience=0"],
    "adam": ["optimizer=adam"],
    "adamw": ["optimizer=adamw"],
    "rmsprop": ["optimizer=rmsprop"],
    "momentum": ["optimizer.momentum=0.9"],
    "label_noise": ["data.label_noise=0.1"],
    "lightnings_loop": ["lean_loop=false"],
    "clipping": ["trainer.gradient_clip_val=0.1"],
    "sanity": ["trainer.num_sanity_val_steps=2"],
    "long_records": ["trainer.log_every_n_steps=1000"],
    "reload": ["trainer.reload_dataloaders_every_n_epochs=1"],
    "deterministic": ["trainer.deterministic=true"],
    "anomaly": ["trainer.detect_anomaly=true"],
    "by_loss": ["optimized_metric=val/loss", "optimized_mode=min"],
    "callbacks": ["callbacks=default", "callbacks.pictures.every_n_steps=16", "callbacks.histograms.every_n_steps=4"],
    "averaging": [AVERAGING],
    "accumulation": [ACCUMULATION],
    "early_stopping": [lightnings("EarlyStopping", "monitor: val/loss, patience: 2")],
    "checkpoints": [lightnings("ModelCheckpoint", "save_top_k: -1, every_n_train_steps: 13, dirpath: more")],
    "learning_rates": [lightnings("LearningRateMonitor"), "scheduler=cosine"],
    "timer": [lightnings("Timer", "duration: '00:01:00:00'")],
    "mean_weights": [lightnings("WeightAveraging")],
}
PLAIN = {
    "plain": plain(),
    "plain_workers": plain("num_workers: 2"),
    "plain_seed": plain("seed: 3"),
    "plain_stream": plain("streams: true, num_workers: 1"),
    "plain_cosine": [*plain(), "scheduler=cosine"],
    "plain_step_lr": [*plain(), "scheduler=step_lr", "scheduler.step_size=1", "scheduler.gamma=0.5"],
    "plain_max_steps": [*plain(), *LAST_STEP],
    "plain_averaging": [*plain(), AVERAGING],
    "plain_reload": [*plain(), "trainer.reload_dataloaders_every_n_epochs=1"],
    "plain_lightnings_loop": [*plain(), "lean_loop=false"],
    "plain_records": [*plain(), "trainer.log_every_n_steps=1", "trainer.precision=64-true"],
}


def check(overrides: list[str], cuts: list[tuple[str, int]], tmp_path: Path) -> None:
    """Train once without and once with cuts, and compare."""
    whole, cut = new_directory(tmp_path / "whole"), new_directory(tmp_path / "cut")
    train(compose_config(*overrides), whole)
    last, resume = cut / "checkpoints" / "last.ckpt", list[str]()
    for hook, occurrence in cuts:
        with pytest.raises(CutError):
            train(compose_config(*overrides, *resume, cutter(hook, occurrence)), cut)
        resume = [f"ckpt_path={last}"] if last.exists() else []
    train(compose_config(*overrides, *resume), cut)
    assert_same_run(cut, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_run_that_is_cut_resumes_exactly(name: str, tmp_path: Path) -> None:
    check(*REPRESENTATIVES[name], tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("cuts", EVERYWHERE, ids=lambda cuts: "-".join(f"{hook}_{n}" for hook, n in cuts))
@pytest.mark.parametrize("name", [*FLAGS, *PLAIN])
def test_a_run_that_is_cut_anywhere_resumes_exactly(name: str, cuts: list[tuple[str, int]], tmp_path: Path) -> None:
    if name == "max_steps" or name == "plain_max_steps":
        cuts = [(hook, min(number, 60)) for hook, number in cuts]
    check(PLAIN.get(name) or [*POINTS, *FLAGS[name]], cuts, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            [*POINTS, lightnings("ModelPruning", "pruning_fn: l1_unstructured, amount: 0.1")],
            "no checkpoint has its masks",
        ),
        (plain("num_workers: 1, persists: true"), "no checkpoint has the workers' random generators"),
        (plain("streams: true"), "if reading a sample draws random numbers"),
    ],
)
def test_a_part_that_resumes_inexactly_is_named_once(
    overrides: list[str], line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(compose_config(*overrides, "trainer.max_epochs=1", "test=false"), tmp_path)
    assert caplog.text.count(line) == 1


@pytest.mark.slow
def test_pictures_and_histograms_of_a_resumed_run_are_at_the_same_steps(tmp_path: Path) -> None:
    records = ["callbacks.pictures.every_n_steps=8", "callbacks.histograms.every_n_steps=4", "trainer.max_epochs=2"]
    overrides = [*POINTS, "callbacks=default", *records, "test=false"]
    check(overrides, [("on_train_batch_start", 11)], tmp_path)
    steps = []
    for name in ("whole", "cut"):
        events = EventAccumulator(str(tmp_path / name / "tensorboard"), size_guidance={"histograms": 0, "images": 0})
        events.Reload()
        pictures, histograms = events.Images("boundary"), events.Histograms("weights/fc1.weight")
        steps.append(([event.step for event in pictures], [event.step for event in histograms]))
    assert steps[0] == steps[1]
    assert steps[0][0] == [8, 16, 24, 32, 40]
