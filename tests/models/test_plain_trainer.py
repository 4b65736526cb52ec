"""What a user of Lightning expects of the models and data, with a Trainer that knows nothing of backlit."""

import csv
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torchmetrics.functional.classification as reference
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from backlit.data import PointsDataModule
from backlit.models import BinaryClassifier, MulticlassClassifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers",  # data in memory need none
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning 2.6 beside torch 2.14
    "ignore:The number of training batches .* is smaller than the logging interval",
)


def trainer(**arguments: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(accelerator="cpu", enable_model_summary=False, **quiet | arguments)


def points(**arguments: Any) -> PointsDataModule:
    return PointsDataModule(train_size=40, batch_size=10, passes_per_epoch=1, val_size=20, test_size=30, **arguments)


def read_rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(name, "version_0", "metrics.csv").read_text().splitlines()))


@pytest.mark.parametrize("stage", ["test", "validate"])
def test_the_metrics_are_the_result_and_the_table(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = BinaryClassifier(), points()
    runner = trainer()
    (result,) = getattr(runner, stage)(model, datamodule=data)
    samples = data.test_set if stage == "test" else data.val_set
    assert samples is not None
    with torch.no_grad():
        chances = model(samples.inputs.float()).sigmoid()
    prefix = "test" if stage == "test" else "val"
    assert result == pytest.approx(
        {
            f"{prefix}/loss": torch.nn.functional.binary_cross_entropy(chances, samples.targets.float()).item(),
            f"{prefix}/acc": ((chances > 0.5) == samples.targets).float().mean().item(),
            f"{prefix}/f1": reference.binary_f1_score(chances, samples.targets).item(),
            f"{prefix}/auroc": reference.binary_auroc(chances, samples.targets).item(),
            f"{prefix}/ece": reference.binary_calibration_error(chances, samples.targets, n_bins=15).item(),
        },
        abs=1e-6,
    )
    assert {name: value.item() for name, value in runner.callback_metrics.items()} == result
    assert str(result[f"{prefix}/loss"])[:8] in capsys.readouterr().out


def test_predictions_are_probabilities_in_the_order_of_the_test_set() -> None:
    model, data = BinaryClassifier(), points(eval_batch_size=7)
    predicted = trainer().predict(model, datamodule=data)
    assert predicted is not None
    assert [len(batch) for batch in predicted] == [6] * 5  # as equal as possible
    with torch.no_grad():
        expected = model(data.test_set.inputs.float()).sigmoid()
    assert torch.allclose(torch.cat(predicted), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("with_targets", [True, False])
def test_a_loader_of_inputs_is_predicted_with_or_without_targets(with_targets: bool) -> None:
    model, inputs = MulticlassClassifier(in_features=3, num_classes=4, hidden_sizes=[]), torch.randn(6, 3)
    data: Any = TensorDataset(inputs, torch.zeros(6)) if with_targets else list(inputs)
    predicted = trainer(precision="bf16-true").predict(model, DataLoader(data, batch_size=6))
    assert predicted is not None
    (chances,) = predicted
    assert isinstance(chances, torch.Tensor)
    assert (chances.shape, chances.dtype) == ((6, 4), torch.float32)
    assert torch.allclose(chances.sum(1), torch.ones(6))


def test_a_model_that_is_fitted_by_two_trainers_has_all_records_of_both() -> None:
    model, data = BinaryClassifier(), points()
    for number in range(2):
        runner = trainer(max_epochs=2, log_every_n_steps=3, logger=CSVLogger(".", name=f"fit{number}"))
        runner.fit(model, datamodule=data)
        assert runner.logged_metrics == runner.callback_metrics
        rows = read_rows(f"fit{number}")
        for column, steps in (("train/loss", ["3", "6"]), ("val/acc_best", ["4", "8"]), ("train/acc", ["4", "8"])):
            assert [row["step"] for row in rows if row[column]] == steps
    # One that continues counts on.
    runner.fit_loop.max_epochs = 4
    runner.fit(model, datamodule=data)
    rows = read_rows("fit1")
    assert [row["step"] for row in rows if row["train/loss"]] == ["3", "6", "9", "12", "15"]
    assert [row["step"] for row in rows if row["val/acc"]] == ["4", "8", "12", "16"]
    best = model.val_best["loss"].compute()  # type: ignore[operator]
    runner.validate(model, datamodule=points(offset=0.5), verbose=False)
    assert model.val_best["loss"].compute() == best  # type: ignore[operator]
