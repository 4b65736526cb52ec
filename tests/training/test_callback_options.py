"""The options of ``callbacks``: each resumes exactly, in sweeps, in two processes; what is tested is what is saved."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from backlit import load_run
from backlit.config import check as config_check
from backlit.errors import ConfigError
from backlit.runs.checkpoint import read_checkpoint
from backlit.runs.compare import find_differences
from backlit.runs.files import new_directory
from backlit.training.build import find_problems
from backlit.training.train import train
from tests.conftest import CallCommand, Compose, RunCommand
from tests.helpers.callbacks import CutError, cutter
from tests.helpers.commands import QUICK
from tests.helpers.runs import read_record, saved_metrics
from tests.training.test_exact_resume import LATE, POINTS, START, STEP, VALIDATION, plain

# Lightning's hint, when a run resumes without a callback that it had.
pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")

# Each option with keys that show it in four epochs of 20 steps.
OPTIONS = {
    "early_stopping": ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=0.02"],
    "model_checkpoint": ["callbacks.model_checkpoint.save_last=true", "callbacks.model_checkpoint.save_top_k=2"],
    "lr_monitor": ["callbacks.lr_monitor.logging_interval=step", "scheduler=cosine"],
    "ema": ["callbacks.ema.decay=0.9"],
    "swa": ["callbacks.swa.swa_epoch_start=2"],
    "model_summary": [],
    "device_stats": [],
    "rich_progress": [],
}
TOGETHER = [option for option in OPTIONS if option not in ("swa", "device_stats")]  # one average at most
CUTS = {"step": STEP, "late": LATE, "start": START, "validation": VALIDATION}


def chosen(*options: str) -> list[str]:
    """Return the overrides that add options to no other callbacks."""
    if "device_stats" in options:
        pytest.importorskip("psutil")
    keys = [key for option in options for key in OPTIONS[option]]
    return [f"callbacks=[{','.join(['none', *options])}]", *keys]


def check_resume(overrides: list[str], cut: tuple[str, int], tmp_path: Path, composed: Compose) -> Path:
    """Train once without and once with a cut, and compare; return the directory of the one that was cut."""
    whole, resumed = new_directory(tmp_path / "whole"), new_directory(tmp_path / "cut")
    train(composed(*overrides), whole)
    with pytest.raises(CutError):
        train(composed(*overrides, cutter(*cut)), resumed)
    train(composed(*overrides, f"ckpt_path={resumed / 'checkpoints' / 'last.ckpt'}"), resumed)
    assert find_differences(whole, resumed) == []
    names = [[path.name for path in sorted(run.rglob("*.ckpt"))] for run in (whole, resumed)]
    assert names[0] == names[1]
    return resumed


def check_tested(run: Path) -> None:
    """Assert that the saved weights are those of the named checkpoint, and have the loss that was tested."""
    saved = json.loads((run / "metrics.json").read_text())
    weights = torch.load(run / "weights.pth", weights_only=True)
    named = read_checkpoint(run / saved["checkpoint"]["test/loss"])["state_dict"]
    assert weights
    assert [key for key in weights if not torch.equal(weights[key], named[f"net.{key}"])] == []
    loaded = load_run(run)
    loaded.datamodule.setup("test")
    with torch.no_grad():
        for name in ("val", "test"):
            samples = getattr(loaded.datamodule, f"{name}_set")
            logits = loaded.model.eval()(samples.inputs.float()).squeeze(-1)
            loss = binary_cross_entropy_with_logits(logits, samples.targets.float()).item()
            key = "val/loss_best" if name == "val" else "test/loss"
            assert loss == pytest.approx(saved["metrics"][key], rel=1e-5)


@pytest.mark.slow
def test_options_together_resume_exactly(composed: Compose, tmp_path: Path) -> None:
    run = check_resume([*POINTS, *chosen(*TOGETHER), "optimized_metric=val/loss"], STEP, tmp_path, composed)
    check_tested(run)


@pytest.mark.slow
@pytest.mark.parametrize("averaging", ["ema", "swa", "late", "per_epoch"])
def test_what_is_tested_is_what_is_saved_with_averaged_weights(
    averaging: str, composed: Compose, tmp_path: Path
) -> None:
    more = {"late": ["+callbacks.ema.update_starting_at_step=30"]}
    more["per_epoch"] = ["callbacks.ema.update_every_n_steps=1000", "+callbacks.ema.update_starting_at_epoch=0"]
    overrides = [*chosen(averaging if averaging == "swa" else "ema"), *more.get(averaging, [])]
    train(composed(*POINTS, *overrides, "optimized_metric=val/loss", "model.dropout=0"), tmp_path)
    check_tested(tmp_path)
    other = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert any(not torch.equal(other["state_dict"][key], value) for key, value in other["current_model_state"].items())


def test_the_average_of_epochs_is_the_mean_of_the_weights_at_their_ends(composed: Compose, tmp_path: Path) -> None:
    short = [*POINTS, "model.dropout=0", "test=false", "optimized_metric=val/loss"]
    ends = []
    for epochs in (2, 3, 4):
        train(composed(*short, f"trainer.max_epochs={epochs}"), new_directory(tmp_path / str(epochs)))
        ends.append(read_checkpoint(tmp_path / str(epochs) / "checkpoints" / "last.ckpt")["state_dict"])
    train(composed(*short, *chosen("swa")), new_directory(tmp_path / "swa"))
    averaged = read_checkpoint(tmp_path / "swa" / "checkpoints" / "last.ckpt")["state_dict"]
    for key in ("net.fc1.weight", "net.fc2.bias"):
        torch.testing.assert_close(averaged[key], torch.stack([weights[key] for weights in ends]).mean(0))


def test_a_run_that_is_stopped_early_says_why_and_stays_so_until_more_is_asked_for(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stops = [*QUICK, "callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.9", "test=false"]
    stops += ["data.passes_per_epoch=1", "trainer.max_epochs=9"]
    train(composed(*stops, "callbacks.early_stopping.patience=1"), tmp_path)
    stopped = read_record(tmp_path)["stopped"]
    reason = stopped.pop("reason")
    assert stopped == {"epoch": 2, "step": 2, "by": "EarlyStopping"}
    assert reason.startswith("val/loss has not improved in 1 check (patience=1); the best is 0.")
    assert f"stopped after epoch 2 of 9, step 2: {reason}" in caplog.messages

    again = f"ckpt_path={tmp_path / 'checkpoints' / 'last.ckpt'}"
    for patience, epochs in ((1, 2), (3, 4)):
        train(composed(*stops, f"callbacks.early_stopping.patience={patience}", again), tmp_path)
        assert read_record(tmp_path)["stopped"]["epoch"] == epochs
    train(composed(*stops, "~callbacks.early_stopping", "trainer.max_epochs=6", again), tmp_path)
    assert "stopped" not in read_record(tmp_path)
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 6


def test_resume_names_why_a_run_was_stopped_and_takes_another_patience(call_command: CallCommand) -> None:
    stops = ["callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.9", "trainer.max_epochs=9"]
    run = [*QUICK, "data.passes_per_epoch=1", *stops, "callbacks.early_stopping.patience=1", "hydra.run.dir=run"]
    assert call_command("backlit-train", *run).returncode == 0
    ended = call_command("backlit-train", "resume=run")
    assert ended.returncode == 2
    assert "which stopped early (val/loss has not improved in 1 check" in ended.stderr
    assert call_command("backlit-train", "resume=run", "callbacks.early_stopping.patience=2").returncode == 0
    assert read_record(Path("run"))["stopped"]["epoch"] == 3


@pytest.mark.parametrize("kind", ["early_stopping", "model_checkpoint"])
def test_a_metric_that_an_own_module_does_not_log_is_one_line(kind: str, composed: Compose, tmp_path: Path) -> None:
    own = [*plain(), f"callbacks={kind}", f"callbacks.{kind}.monitor=val/lost", f"callbacks.{kind}.mode=min"]
    with pytest.raises(ConfigError) as caught:
        train(composed(*own, "trainer.max_epochs=1"), tmp_path)
    (line,) = caught.value.problems
    assert line.startswith(f"callbacks.{kind}.monitor must be a metric that the module logs (")
    assert "val/loss" in line
    assert line.endswith("got 'val/lost'")


def test_what_lightning_would_say_late_or_never_is_one_line(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_check, "find_spec", lambda name: None)
    lines = {
        "callbacks=[default,ema,swa]": "callbacks must have one at most that averages the weights, got "
        "EMAWeightAveraging, EpochAveraging",
        "callbacks=device_stats": "callbacks.device_stats needs psutil: pip install 'backlit[device_stats]'",
    }
    for typed, line in lines.items():
        assert find_problems(composed("experiment=points", "trainer=cpu", typed)) == [line]


@pytest.mark.soak
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_resumes_exactly(option: str, cut: str, composed: Compose, tmp_path: Path) -> None:
    overrides = [*POINTS, *chosen(option), "optimized_metric=val/loss"]
    if option == "early_stopping" and cut == "late":
        overrides.append("callbacks.early_stopping.patience=4")  # else the run is over by then
    check_tested(check_resume(overrides, CUTS[cut], tmp_path, composed))


@pytest.mark.soak
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_works_in_a_sweep(option: str, run_command: RunCommand) -> None:
    done = run_command("backlit-train", "-m", *QUICK, *chosen(option), "seed=1,2", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = sorted(path.parent for path in Path("sweep").glob("*/run.json"))
    assert [read_record(job)["status"] for job in jobs] == ["completed"] * 2
    for job in jobs:
        check_tested(job)


@pytest.mark.soak
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_works_in_two_processes(
    option: str, run_script: RunCommand, composed: Compose, tmp_path: Path
) -> None:
    arguments = [
        *QUICK,
        *chosen(option),
        "data.batch_size=10",
        "data.passes_per_epoch=1",
        "trainer.log_every_n_steps=1",
    ]
    done = run_script("backlit-train", *arguments, "trainer=ddp_cpu", "hydra.run.dir=two", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    check_tested(Path("two"))
    train(composed(*arguments), new_directory(tmp_path / "one"))
    one, two = saved_metrics(tmp_path / "one"), saved_metrics(Path("two"))
    assert two == pytest.approx(one, rel=1e-4)
