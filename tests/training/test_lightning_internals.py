"""Each private part of Lightning, torch and Hydra that backlit touches is there, and does what it is touched for."""

import copy
import importlib
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities import registry
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from backlit.config.conf import CONFIG_DIR
from backlit.data import PointsDataModule
from backlit.models import BinaryClassifier
from backlit.runs.files import new_directory
from backlit.training import lightning_internals
from backlit.training.train import train
from tests.helpers.callbacks import signaller
from tests.helpers.commands import compose_config

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers",
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:The number of training batches .* is smaller than the logging interval",
)

LAUNCHER: Any = importlib.import_module("lightning.pytorch.strategies.launchers.subprocess_script")
SMALL = ["experiment=points", "trainer=cpu", "callbacks=none", "logger=csv", "data.batch_size=10"]
SMALL += ["data.passes_per_epoch=4", "trainer.log_every_n_steps=1", "model.dropout=0.1"]


def make_trainer(**arguments: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(**{"accelerator": "cpu", "enable_model_summary": False, **quiet, **arguments})


def fit(trainer: lightning.Trainer) -> None:
    model = BinaryClassifier(optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))
    trainer.fit(model, datamodule=PointsDataModule(train_size=40, batch_size=10, passes_per_epoch=1, val_size=20))


def test_hydra_copies_its_config_store_unless_it_is_shared() -> None:
    store = ConfigStore.instance()
    copied: list[ConfigStore] = []

    def deepcopy(self: ConfigStore, memo: object) -> ConfigStore:
        copied.append(self)
        return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigStore, "__deepcopy__", deepcopy, raising=False)
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            compose("train", ["experiment=points"])
    assert copied  # so it is worth it
    with lightning_internals.share_config_store():
        assert copy.deepcopy(store) is store
    assert copy.deepcopy(store) is not store


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU keeps the probe")
def test_torch_asks_nvml_unless_the_probe_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: asked.append(True) or -1)  # type: ignore[func-returns-value]
    torch.cuda.is_available()
    assert asked
    lightning_internals.skip_nvml_probe()
    assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "0"
    asked.clear()
    torch.cuda.is_available()
    assert not asked


def test_trainers_read_the_entry_points_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or [])  # type: ignore[func-returns-value]
    make_trainer()
    assert asked == ["lightning.pytorch.callbacks_factory"]  # so it is worth it
    lightning_internals.read_entry_points_once()
    asked.clear()
    make_trainer()
    assert asked == []


def test_lightning_hands_sigterm_to_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []

    class Terminate(lightning.Callback):
        def on_train_start(self, *_: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = make_trainer(max_epochs=1, callbacks=[Terminate()])
    monkeypatch.setattr(trainer._signal_connector, "_sigterm_notifier_fn", pytest.fail)  # is there
    lightning_internals.replace_sigterm_handler(trainer, lambda number, frame: received.append(number))
    fit(trainer)
    assert received == [signal.SIGTERM]
    assert trainer.global_step == 4  # Lightning itself would have ended the training


def test_lightnings_launcher_hands_its_processes_to_the_observer() -> None:
    observed: list[list[Any]] = []
    original = LAUNCHER._launch_process_observer
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
            patch.setenv(name, "0")
        patch.delenv("LOCAL_RANK")
        launcher = LAUNCHER._SubprocessScriptLauncher(LightningEnvironment(), num_processes=1, num_nodes=1)
        with lightning_internals.replace_process_observer(observed.append):
            assert launcher.launch(lambda: "result") == "result"
    assert observed == [launcher.procs]
    assert LAUNCHER._launch_process_observer is original


@pytest.mark.process
def test_the_started_processes_are_those_of_the_launcher() -> None:
    trainer = make_trainer(devices=2, strategy="ddp")
    launcher = trainer.strategy.launcher
    assert isinstance(launcher, LAUNCHER._SubprocessScriptLauncher)
    assert lightning_internals.child_processes(trainer) == []
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        launcher.procs = [process]
        assert lightning_internals.child_processes(trainer) == [process]
    assert "self.procs.append(" in inspect.getsource(LAUNCHER._SubprocessScriptLauncher._call_children_scripts)
    assert lightning_internals.child_processes(make_trainer(devices=1)) == []


def resumed(directory: Path, step: int, overrides: list[str]) -> str:
    """Return the records of a run that is interrupted at a step and resumed."""
    new_directory(directory)
    hook = "on_train_batch_end" if step % 40 else "on_train_epoch_end"
    with pytest.raises(SystemExit):
        train(compose_config(*SMALL, *overrides, signaller(hook, signal.SIGTERM, step)), directory)
    last = directory / "checkpoints" / "last.ckpt"
    train(compose_config(*SMALL, *overrides, f"ckpt_path={last}"), directory)
    return (directory / "metrics.csv").read_text()


EPOCHS = ["trainer.max_epochs=3"]
STEPS = ["trainer.max_epochs=-1", "trainer.max_steps=120"]
PLATEAU = [*EPOCHS, "scheduler=plateau", "scheduler.monitor=val/acc", "optimizer.lr=1e-6"]  # which improves nothing
PLATEAU += ["scheduler.patience=0", "scheduler.factor=0.1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "step", "parts"),
    [
        (STEPS, 80, {"end_epoch_once": lambda trainer: None}),
        ([*EPOCHS, "scheduler=cosine"], 50, {"resume_loops": lambda trainer: None}),
        (
            PLATEAU,
            50,
            {"resume_loops": lambda trainer: trainer.fit_loop._load_combined_loader_states()},
        ),
    ],
    ids=["end_epoch_once", "resume_loops-loader", "resume_loops-plateau"],
)
def test_without_this_part_a_resumed_run_is_another(
    overrides: list[str], step: int, parts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(compose_config(*SMALL, *overrides), new_directory(tmp_path / "whole"))
    whole = (tmp_path / "whole" / "metrics.csv").read_text()
    assert resumed(tmp_path / "with", step, overrides) == whole
    for name, replacement in parts.items():
        monkeypatch.setattr(lightning_internals, name, replacement)
    assert resumed(tmp_path / "without", step, overrides) != whole


def test_lightnings_loops_have_the_parts_that_are_replaced() -> None:
    loop = make_trainer(max_steps=10).fit_loop
    assert loop._iteration_based_training()
    assert not make_trainer(max_epochs=1).fit_loop._iteration_based_training()
    assert callable(loop._load_combined_loader_states)
    assert loop._restarting is False


def test_lightning_asks_for_sigterm_at_each_step_unless_it_is_stopped() -> None:
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(_TrainingEpochLoop.advance)
    trainer = make_trainer(max_epochs=1)
    loop = trainer.fit_loop.epoch_loop
    original = loop._broadcast_sigterm_tensor
    assert not inspect.signature(original).parameters
    lightning_internals.stop_sigterm_broadcast(trainer)
    assert loop._broadcast_sigterm_tensor != original
    lightning_internals.restore_sigterm_broadcast(trainer)
    assert loop._broadcast_sigterm_tensor == original


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [1, 2, 3]),  # the fourth ends the epoch, and a validation follows
        ({"val_check_interval": 2}, [1, 3]),
        ({"accumulate_grad_batches": 2}, [2]),
    ],
)
def test_a_batch_is_between_steps_unless_a_validation_follows_or_gradients_accumulate(
    arguments: dict[str, Any], expected: list[int]
) -> None:
    between: list[int] = []

    class Witness(lightning.Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
            if lightning_internals.is_between_steps(trainer):
                between.append(arguments[-1] + 1)

    fit(make_trainer(max_epochs=1, callbacks=[Witness()], num_sanity_val_steps=0, **arguments))
    assert between == expected


def test_the_last_epoch_counts_when_nothing_is_left_to_train() -> None:
    trainer = make_trainer(max_epochs=1)
    epochs: Any = trainer.fit_loop.epoch_progress.current
    epochs.processed = 3
    assert trainer.current_epoch == 0
    lightning_internals.complete_last_epoch(trainer)
    assert trainer.current_epoch == 3


def test_the_batches_of_a_resumed_epoch_are_skipped_in_their_order() -> None:
    seen: list[list[int]] = []

    class Repeats(lightning.Callback):
        def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
            state = torch.get_rng_state()
            whole = [batch[0] for batch in lightning_internals.train_loaders(trainer)[0]]
            torch.set_rng_state(state)
            trainer.fit_loop.epoch_loop.batch_progress.current.ready = 3
            lightning_internals.repeat_batches(trainer)
            fetcher: Any = trainer.fit_loop._data_fetcher
            assert fetcher.fetched == 0
            rest = [next(fetcher)[0][0] for _ in range(len(whole) - 3)]
            seen.extend([torch.cat(whole[3:]).tolist(), torch.cat(rest).tolist()])
            trainer.should_stop = True

    class Module(lightning.LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

        def configure_optimizers(self) -> None:
            return None

    data = torch.utils.data.TensorDataset(torch.arange(20))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    with pytest.warns(UserWarning, match="configure_optimizers"):
        make_trainer(max_epochs=1, callbacks=[Repeats()]).fit(Module(), loader)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 8


def test_the_sums_of_logged_values_are_kept_and_added() -> None:
    found: list[dict[str, list[float]]] = []

    class Sums(lightning.Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *arguments: Any) -> None:
            for name, reduce_fx in (("mean", "mean"), ("sum", "sum"), ("max", "max")):
                value = float(arguments[-1] + 1)
                pl_module.log(name, value, on_step=False, on_epoch=True, reduce_fx=reduce_fx, batch_size=2)
            if arguments[-1] == 1:
                sums = lightning_internals.logged_sums(trainer)
                found.append({key.rpartition(".")[2]: [float(x) for x in value] for key, value in sums.items()})
                lightning_internals.add_logged_sums(trainer, sums)
                sums = lightning_internals.logged_sums(trainer)
                found.append({key.rpartition(".")[2]: [float(x) for x in value] for key, value in sums.items()})

    fit(make_trainer(max_epochs=1, callbacks=[Sums()]))
    assert found == [
        {"mean": [6, 4], "sum": [3], "max": [2]},
        {"mean": [12, 8], "sum": [6], "max": [2]},
    ]


def test_a_bar_shows_the_name_that_it_gets_for_an_epoch() -> None:
    bar = RichProgressBar()
    lightning_internals.name_epochs(bar, lambda: "epoch 7")
    fit(make_trainer(max_epochs=1, enable_progress_bar=True, callbacks=[bar]))
    assert bar.progress is not None
    assert "epoch 7" in [task.description.strip() for task in bar.progress.tasks]
