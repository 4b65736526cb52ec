import contextlib
import math
from typing import Any

import lightning
import pytest
import torch
import torchmetrics
import torchmetrics.functional.classification as reference
from torch.utils.data import DataLoader, TensorDataset

from backlit.data import PointsDataModule
from backlit.models import BinaryClassifier, Classifier, MulticlassClassifier
from backlit.models.classifier import Recorder


def trainer(**arguments: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(accelerator="cpu", num_sanity_val_steps=0, enable_model_summary=False, **quiet | arguments)


def loader(inputs: torch.Tensor, targets: torch.Tensor, batch_size: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(inputs, targets), batch_size=batch_size)


SHORT_EPOCH = "ignore:The number of training batches .* is smaller than the logging interval"
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers",  # data in memory need none
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning 2.6 beside torch 2.14
)


def test_binary_loss_equals_a_computation_by_hand() -> None:
    loss = BinaryClassifier().loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0]))
    # -log sigmoid(0) = log 2; -log(1 - sigmoid(2)) = log(1 + e²)
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 2)


def test_multiclass_loss_equals_a_computation_by_hand() -> None:
    loss = MulticlassClassifier(in_features=2, num_classes=3).loss(torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([2]))
    assert loss.item() == pytest.approx(1 + math.log(math.e + 1 + 1 / math.e))


def test_binary_logits_have_one_dimension() -> None:
    model = BinaryClassifier()
    logits = model(torch.randn(7, 2))
    assert logits.shape == (7,)
    assert torch.allclose(model.probabilities(logits), 1 / (1 + torch.exp(-logits)))


@pytest.mark.parametrize("batch_size", [3, 50])
def test_metrics_are_those_of_the_whole_set(batch_size: int) -> None:
    torch.manual_seed(0)
    model = MulticlassClassifier(in_features=6, num_classes=4, hidden_sizes=[8])
    # Logits that all lie in [0, 1] could be taken for probabilities.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.05)
    inputs, targets = torch.randn(50, 6), torch.randint(4, (50,))
    runner = trainer()
    runner.test(model, loader(inputs, targets, batch_size), verbose=False)
    with torch.no_grad():
        logits = model(inputs)
    chances = logits.softmax(1)
    expected = {
        "test/loss": torch.nn.functional.cross_entropy(logits, targets),
        "test/acc": (logits.argmax(1) == targets).float().mean(),
        "test/f1": reference.multiclass_f1_score(chances, targets, 4, average="macro"),
        "test/auroc": reference.multiclass_auroc(chances, targets, 4),
        "test/ece": reference.multiclass_calibration_error(chances, targets, 4, n_bins=15),
    }
    assert set(runner.callback_metrics) == set(expected)
    for name, value in expected.items():
        assert runner.callback_metrics[name].item() == pytest.approx(value.item(), abs=1e-6), name


def test_binary_accuracy_counts_the_sign_of_the_logit() -> None:
    model = BinaryClassifier(hidden_sizes=[])
    model.net.load_state_dict({"fc1.weight": torch.tensor([[0.1, 0.0]]), "fc1.bias": torch.tensor([0.0])})
    # Logits 0.01, 0.04, 0.09: class 1, though as probabilities they would mean class 0.
    inputs = torch.tensor([[0.1, 0.0], [0.4, 0.0], [0.9, 0.0], [-0.5, 0.0]])
    runner = trainer()
    runner.test(model, loader(inputs, torch.tensor([1, 1, 0, 0]), 4), verbose=False)
    assert runner.callback_metrics["test/acc"].item() == 0.75


@pytest.mark.slow
def test_one_batch_can_be_memorised() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(32, 10), torch.randint(5, (32,))
    model = MulticlassClassifier(
        in_features=10, num_classes=5, hidden_sizes=[64], optimizer=lambda p: torch.optim.Adam(p, 0.01)
    )
    runner = trainer(max_epochs=150, log_every_n_steps=1)
    runner.fit(model, loader(inputs, targets, 32), loader(inputs, targets, 32))
    assert runner.callback_metrics["train/acc"] == 1
    assert runner.callback_metrics["train/loss"] < 0.05


class Records(lightning.pytorch.loggers.CSVLogger):
    """Keeps the records that a logger gets."""

    def __init__(self) -> None:
        super().__init__(".")
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.rows.append((step, metrics))

    def save(self) -> None: ...


@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_loss_is_the_mean_since_the_last_record(accumulate: int) -> None:
    losses: list[float] = []

    class Losses(lightning.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            losses.append(float(arguments[2]["loss"]) * accumulate)

    records = Records()
    data = PointsDataModule(train_size=30, batch_size=10, passes_per_epoch=4)
    runner = trainer(
        max_epochs=2,
        logger=records,
        callbacks=[Losses()],
        log_every_n_steps=2,
        accumulate_grad_batches=accumulate,
        check_val_every_n_epoch=5,
    )
    runner.fit(BinaryClassifier(), datamodule=data)
    recorded = [(step, row["train/loss"]) for step, row in records.rows if "train/loss" in row]
    assert [step for step, _ in recorded] == list(range(2, runner.global_step + 1, 2))
    batches = 2 * accumulate
    means = [sum(losses[i : i + batches]) / batches for i in range(0, len(losses), batches)]
    assert [value for _, value in recorded] == pytest.approx(means, rel=1e-5)


@pytest.mark.filterwarnings(SHORT_EPOCH)
@pytest.mark.parametrize("every", [4, 7, 50])
def test_the_training_loss_of_an_epoch_is_of_that_epoch(every: int) -> None:
    losses: list[float] = []
    shown: list[float] = []

    class Losses(lightning.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            losses.append(float(arguments[2]["loss"]))

        def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
            shown.append(float(trainer.callback_metrics["train/loss"]))

    records = Records()
    runner = trainer(max_epochs=4, logger=records, callbacks=[Recorder(), Losses()], log_every_n_steps=every)
    runner.fit(BinaryClassifier(), datamodule=PointsDataModule(train_size=50, batch_size=10, passes_per_epoch=1))
    recorded = {step: row["train/loss"] for step, row in records.rows if "train/loss" in row}
    # At every multiple of `every`, and at the end of each epoch if its five steps are fewer than `every`.
    expected, last = {}, {}
    for epoch in range(4):
        steps = range(5 * epoch + 1, 5 * epoch + 6)
        begin, due = steps[0], [step for step in steps if step % every == 0 or (step == steps[-1] and every > 5)]
        for step in due:
            expected[step] = sum(losses[begin - 1 : step]) / (step - begin + 1)
            begin, last[epoch] = step + 1, expected[step]
    assert recorded == pytest.approx(expected, rel=1e-5)
    assert shown == pytest.approx(list(last.values()), rel=1e-5)


@pytest.mark.parametrize("own_loader", [False, True], ids=["backlit", "DataLoader"])
@pytest.mark.parametrize("limit", [1.0, 6])
@pytest.mark.filterwarnings(SHORT_EPOCH)
def test_an_optimizer_step_follows_the_mean_gradient_of_its_samples(own_loader: bool, limit: float) -> None:
    size = 66 if own_loader else 63  # batches of another loader than ours have to be equally large
    data = PointsDataModule(train_size=size, batch_size=6, passes_per_epoch=1)
    data.setup("fit")
    model = BinaryClassifier(optimizer=lambda parameters: torch.optim.SGD(parameters, 0.5))
    plain = BinaryClassifier()
    plain.load_state_dict(model.state_dict())
    runner = trainer(max_epochs=1, accumulate_grad_batches=4, limit_train_batches=limit, limit_val_batches=0)
    if own_loader:
        points, labels = data.train_set.inputs.float(), data.train_set.targets
        batches = list(loader(points, labels, 6))
        runner.fit(model, loader(points, labels, 6), loader(points, labels, 6))
    else:
        batches = [(points.float(), labels) for points, labels in data.train_dataloader()]
        runner.fit(model, datamodule=data)
    batches = batches[: 6 if limit == 6 else None]
    optimizer = torch.optim.SGD(plain.parameters(), 0.5)
    for start in range(0, len(batches), 4):
        inputs, targets = (torch.cat(part) for part in zip(*batches[start : start + 4], strict=True))
        optimizer.zero_grad()
        plain.loss(plain(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, value in plain.state_dict().items():
        if name.startswith("net."):
            assert torch.allclose(model.state_dict()[name], value, atol=1e-6), name


@pytest.mark.parametrize("bad_step", [1, 7, 12])
@pytest.mark.parametrize("every", [5, 1000])
@pytest.mark.filterwarnings(SHORT_EPOCH)
def test_a_loss_that_is_not_finite_is_reported_with_its_step(bad_step: int, every: int) -> None:
    class Diverges(BinaryClassifier):
        def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            factor = math.nan if self.trainer.training and self.global_step + 1 >= bad_step else 1.0
            return super().loss(logits, targets) * factor

    data = PointsDataModule(train_size=10, passes_per_epoch=6)
    with pytest.raises(FloatingPointError, match=rf"^train/loss is nan at step {bad_step}, epoch \d; try a smaller"):
        trainer(max_epochs=2, log_every_n_steps=every).fit(Diverges(), datamodule=data)


def test_the_best_value_so_far_is_kept_over_epochs() -> None:
    seen: list[tuple[float, float]] = []

    class Watch(lightning.Callback):
        def on_validation_end(self, runner: lightning.Trainer, module: lightning.LightningModule) -> None:
            seen.append((runner.callback_metrics["val/acc"].item(), runner.callback_metrics["val/acc_best"].item()))

    lightning.seed_everything(1, verbose=False)
    data = PointsDataModule(train_size=20, val_size=50, passes_per_epoch=3)
    trainer(max_epochs=6, callbacks=[Watch()], log_every_n_steps=1).fit(
        BinaryClassifier(optimizer=lambda p: torch.optim.SGD(p, 3.0)), datamodule=data
    )
    assert len(seen) == 6
    assert [best for _, best in seen] == [max(acc for acc, _ in seen[: i + 1]) for i in range(6)]


@pytest.mark.parametrize("model", [BinaryClassifier(hidden_sizes=[3]), MulticlassClassifier(hidden_sizes=[5])])
def test_hyperparameters_are_plain_data(model: Classifier) -> None:
    plain = (int, float, str, bool, list, type(None))
    assert all(isinstance(value, plain) for value in model.hparams.values())
    assert "optimizer" not in model.hparams


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # torch 2.11, by itself
def test_compile_keeps_the_names_of_the_weights() -> None:
    model = BinaryClassifier(compile=True)
    assert [n for n in model.state_dict() if n.startswith("net.")] == [
        "net.fc1.weight",
        "net.fc1.bias",
        "net.fc2.weight",
        "net.fc2.bias",
    ]


@pytest.mark.filterwarnings(SHORT_EPOCH)
def test_the_metric_state_restores_a_training_between_two_records() -> None:
    model, restored = BinaryClassifier(), BinaryClassifier()
    runner = trainer(max_epochs=1, check_val_every_n_epoch=5, log_every_n_steps=50)
    states: list[dict[str, Any]] = []

    class Save(lightning.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            states.append(model.metric_state())

    runner.callbacks.append(Save())  # type: ignore[attr-defined]
    runner.fit(model, datamodule=PointsDataModule(train_size=20, batch_size=8, passes_per_epoch=1))
    assert [state["sizes"] for state in states] == [[8], [8, 8], [8, 8, 4]]
    restored.load_metric_state(states[-1])
    again = restored.metric_state()
    assert again["sizes"] == [8, 8, 4]
    assert all(torch.equal(a, b) for a, b in zip(again["steps"], states[-1]["steps"], strict=True))
    assert torch.equal(again["unrecorded"], states[-1]["unrecorded"])
    assert len(again["unrecorded"]) == 3


@pytest.mark.filterwarnings(SHORT_EPOCH)
@pytest.mark.parametrize("limit", [1.0, 3], ids=["completed", "cut"])
def test_a_second_fit_is_as_the_first_of_a_new_module(limit: float) -> None:
    used, new = (BinaryClassifier(optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1)) for _ in range(2))
    data = PointsDataModule(train_size=40, batch_size=10, passes_per_epoch=1, val_size=20)
    found = []
    for module, fits in ((used, 2), (new, 1)):
        weights = {name: value.clone() for name, value in new.net.state_dict().items()}
        for fit in range(fits):
            module.net.load_state_dict(weights)
            cut = [_Cut()] if fit < fits - 1 and limit != 1.0 else []
            one = trainer(max_epochs=2, log_every_n_steps=3, callbacks=cut)
            with contextlib.suppress(RuntimeError):
                one.fit(module, datamodule=data)
        found.append((module.metric_state(), one.callback_metrics, module.net.state_dict()))
    (state, metrics, weights), (new_state, new_metrics, new_weights) = found
    assert (state["sizes"], state["recorded_at"]) == (new_state["sizes"], new_state["recorded_at"])
    assert state["unrecorded"] is new_state["unrecorded"] is None  # an epoch records what it has left
    assert metrics == new_metrics
    assert all(torch.equal(weights[name], new_weights[name]) for name in weights)


class _Cut(lightning.Callback):
    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        if trainer.global_step == 5:
            raise RuntimeError


def test_metrics_stay_in_float32_when_the_module_is_converted() -> None:
    model = BinaryClassifier().to(torch.bfloat16)
    best = model.val_best["acc"]
    assert isinstance(best, torchmetrics.MaxMetric)
    best.update(torch.tensor(0.94))
    model.to(torch.bfloat16)
    assert best.compute().item() == pytest.approx(0.94, abs=1e-7)  # in bfloat16 it would be 0.9414
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
