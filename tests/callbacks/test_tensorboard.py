from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from backlit.callbacks import Histograms, ModelGraph, Pictures
from backlit.data import PointsDataModule
from backlit.models import BinaryClassifier
from backlit.training.train import train
from tests.conftest import Compose
from tests.helpers.commands import QUICK
from tests.helpers.runs import only_run, read_record

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers",  # data in memory need none
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning 2.6 beside torch 2.14
)


def test_an_interval_below_one_is_rejected() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be >= 1, got 0"):
        Histograms(every_n_steps=0)


@pytest.mark.slow
def test_tensorboard_shows_histograms_pictures_and_the_graph_at_their_steps() -> None:
    """With Lightning's own logger, which closes its writer when training ends."""
    quiet: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    callbacks = [Histograms(every_n_steps=4), ModelGraph(), Pictures("plots", every_n_steps=5)]
    logger = TensorBoardLogger(".", name="", version="events")
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=10, log_every_n_steps=1, callbacks=callbacks, logger=logger, **quiet
    )
    data, model = PointsDataModule(train_size=20, val_size=10, test_size=30), BinaryClassifier()
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    events = EventAccumulator("events", size_guidance={"images": 0, "histograms": 0}).Reload()
    assert [event.step for event in events.Histograms("weights/fc1.weight")] == [0, 4, 8]
    assert [event.step for event in events.Histograms("gradients/fc2.bias")] == [0, 4, 8]
    assert [event.step for event in events.Images("boundary")] == [5, 10, 10]  # twice in training, and in the test
    assert events.Tags()["graph"]
    assert {path.name for path in Path("plots").iterdir()} == {"boundary.png", "confusion_matrix.png"}


@pytest.mark.slow
def test_a_compiled_network_trains_and_has_a_graph(composed: Compose, caplog: pytest.LogCaptureFixture) -> None:
    small = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=2", "trainer.max_epochs=1"]
    metrics = train(composed(*small, "model.compile=true", "callbacks=default", "test=false"))
    assert 0 < metrics["val/loss"] < 1
    run = only_run()
    assert read_record(run)["status"] == "completed"
    assert EventAccumulator(str(run / "tensorboard")).Reload().Tags()["graph"]
    assert "was not written" not in caplog.text


@pytest.mark.slow
def test_pictures_histograms_and_a_graph_that_fail_do_not_fail_the_run(
    composed: Compose, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("backlit.callbacks.pictures.draw_curves", fail)
    monkeypatch.setattr("backlit.callbacks.pictures.draw_confusion_matrix", fail)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_histogram", fail)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_graph", fail)
    train(
        composed(
            *QUICK, "callbacks=default", "callbacks.pictures.every_n_steps=5", "callbacks.histograms.every_n_steps=5"
        )
    )
    assert read_record(only_run())["status"] == "completed"
    warned = [record.getMessage() for record in caplog.records if "no ink" in record.getMessage()]
    assert sorted(warned) == [
        f"{what} was not written: RuntimeError: no ink"
        for what in (
            "a histogram",
            "a picture of the test",
            "a picture",
            "the graph of the network",
            "the picture of the curves",
        )
    ]
