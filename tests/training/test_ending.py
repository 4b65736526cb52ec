"""How a run ends: a full disk, a loss that is not finite, a signal wherever the run is."""

import resource
import signal
from pathlib import Path

import lightning
import pytest
import torch

from backlit.runs.checkpoint import read_checkpoint
from backlit.runs.files import describe_write_error, new_directory
from backlit.runs.run import Run
from backlit.training.train import train
from tests.conftest import CallCommand, Compose
from tests.helpers.callbacks import signaller
from tests.helpers.commands import QUICK
from tests.helpers.runs import change_record, only_run, read_record


class FullFromEpoch2(lightning.Callback):
    """Lets no file grow beyond 100 kB, as a quota does."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line_and_the_run_resumes_elsewhere(
    tiny_mnist: list[str], composed: Compose, call_command: CallCommand
) -> None:
    own = ["trainer.max_epochs=4", "callbacks=none", "logger=csv"]
    train(composed(*tiny_mnist, *own), new_directory(Path("whole")))
    full = "+callbacks.full._target_=tests.training.test_ending.FullFromEpoch2"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="File too large") as ended:
            train(composed(*tiny_mnist, *own, full), new_directory(Path("cut")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    last = read_checkpoint(Path("cut/checkpoints/last.ckpt"))
    steps, reported = last["global_step"], describe_write_error(ended.value)
    assert last["epoch"] == 1
    assert reported.count("\n") == 0
    assert "cannot be written: File too large; last.ckpt of step" in reported
    assert f"step {steps} is kept; to resume elsewhere: backlit-train resume=cut " in reported
    run = Run.read(Path("cut"))
    assert run is not None
    assert run.status == "failed"
    change_record(Path("cut"), arguments=[*tiny_mnist, *own])  # as the command would have recorded it
    before = Path("cut/run.json").read_text()
    done = call_command("backlit-train", "resume=cut", "hydra.run.dir=elsewhere", *tiny_mnist[2:3])
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path("cut/run.json").read_text() == before
    for name in ("metrics.csv", "metrics.json"):
        assert Path("elsewhere", name).read_text() == Path("whole", name).read_text()
    one, two = (torch.load(f"{run}/weights.pth", weights_only=True) for run in ("elsewhere", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_a_disk_that_is_full_at_the_first_checkpoint_is_one_line_and_nothing_is_half_written(
    call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlit.runs.record.git_state", lambda: (None, None, ""))  # no uncommitted.diff of any size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (11_000, limits[1]))
    try:
        ended = call_command("backlit-train", *QUICK, "logger=csv", "hydra.run.dir=run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "run/checkpoints/best.ckpt cannot be written: File too large; no checkpoint had been written" in ended.stderr
    assert "to resume elsewhere: backlit-train resume=run hydra.run.dir=" in ended.stderr
    assert read_record(Path("run"))["status"] == "failed"
    assert list(Path("run/checkpoints").iterdir()) == []


def test_a_loss_that_is_not_finite_ends_the_run_with_its_reason(
    composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    small = ["data.train_size=20", "data.passes_per_epoch=20", "trainer.log_every_n_steps=10", "model.activation=gelu"]
    with pytest.raises(FloatingPointError, match=r"train/loss is (nan|inf) at step \d+"):
        train(composed("experiment=points", *small, "optimizer.lr=1e38", "trainer.accelerator=cpu"))
    record = read_record(only_run())
    assert record["status"] == "failed"
    assert record["error"].startswith("FloatingPointError: train/loss is")
    assert "try a smaller optimizer.lr (now 1e+38)" in record["error"]
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("hook", ["on_fit_start", "on_validation_start", "on_train_end", "on_fit_end", "on_test_start"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_wherever_it_is(
    hook: str, number: signal.Signals, code: int, composed: Compose, tmp_path: Path
) -> None:
    config = composed(*QUICK, "logger=csv", "trainer.max_epochs=1", signaller(hook, number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        with pytest.raises(SystemExit) as ended:
            train(config, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == code
    assert Run.read(tmp_path).status == "interrupted"  # type: ignore[union-attr]
