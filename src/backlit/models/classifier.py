"""LightningModules for classification: how a step is taken, what is measured, what is recorded."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning
import torch
import torch.nn.functional as F
import torchmetrics.classification as metrics
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.aggregation import MaxMetric, MinMetric

from backlit.models.mlp import MLP, Activation, Initialization

Stage = Literal["train", "val", "test"]
Compile = bool | Literal["reduce-overhead", "max-autotune"]

# What the progress bar shows.
BAR = ("train/loss", "val/loss", "val/acc")


class Classifier(lightning.LightningModule):
    """A network, a loss and metrics; `MulticlassClassifier` and `BinaryClassifier` fill them in.

    What a step gives (logits, targets, loss) is kept and handed to the metrics in one call at the end of the epoch,
    since a torchmetrics update a step would cost more than the step. Recorded are

    - ``train/loss`` every ``trainer.log_every_n_steps`` optimizer steps: the mean over the steps since the last
      record; and ``lr``;
    - ``train/loss_epoch`` and ``train/acc`` every epoch;
    - ``val/…`` and ``test/…``: loss, acc, f1, auroc, ece; and ``val/acc_best``, ``val/loss_best`` so far.

    Args:
        net: Maps ``(b, ...)`` to ``(b, out_features)``.
        scores: The metrics of a stage, ``acc`` among them; each takes what `probabilities` gives, and the targets.
            They are cloned for validation and test.
        optimizer: Makes the optimizer from the parameters; None for Adam as PyTorch has it.
        scheduler: Makes Lightning's scheduler config from the optimizer and the total number of optimizer steps
            (see `backlit.models.schedulers`); None for a constant learning rate.
        compile: Compile the network with `torch.compile`, in this mode if one is named; "reduce-overhead" replays CUDA
            graphs. Worth it on a GPU.
    """

    def __init__(
        self,
        net: nn.Module,
        scores: MetricCollection,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
        compile: Compile = False,
    ) -> None:
        super().__init__()
        self.net = net
        if compile:
            self.net.compile(mode=None if compile is True else compile)
        # CUDA graphs, which that mode records, write every step's results to the same place.
        self._keeps_copies = compile == "reduce-overhead"
        self.make_optimizer = torch.optim.Adam if optimizer is None else optimizer
        self.make_scheduler = scheduler
        # Accuracy is what a training curve is read for; the others need a sort of all scores and wait for validation.
        self.scores = nn.ModuleDict(
            {
                "train_": MetricCollection({"acc": scores["acc"].clone()}, prefix="train/"),
                "val_": scores.clone(prefix="val/"),
                "test_": scores.clone(prefix="test/"),
            }
        )
        self.mean_loss = nn.ModuleDict({f"{stage}_": MeanMetric() for stage in ("train", "val", "test")})
        self.val_best: nn.ModuleDict = nn.ModuleDict({"acc": MaxMetric(), "loss": MinMetric()})
        for best in self.val_best.values():
            assert isinstance(best, Metric)
            best.persistent(True)
        self._steps: dict[Stage, list[tuple[Tensor, Tensor, Tensor]]] = {"train": [], "val": [], "test": []}
        self._losses_since_record: list[Tensor] = []
        self._recorded_at = 0

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, shape ``()``, of logits ``(b, ...)`` for targets ``(b,)``."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits for inputs of shape ``(b, ...)``."""
        logits: Tensor = self.net(inputs)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return what the logits mean, in the form that torchmetrics takes."""
        raise NotImplementedError

    def _step(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        inputs, targets = batch
        logits = self(inputs)
        if self._keeps_copies:
            logits = logits.clone()
        loss = self.loss(logits, targets)
        self._steps[stage].append((loss.detach(), logits.detach(), targets))
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean loss of a batch, shape ``()``; one whose mean over the processes is that of all samples."""
        loss = self._step(batch, "train")
        if self.trainer.world_size > 1:
            weigh = getattr(self.trainer.train_dataloader, "weight", None)
            weight = 1 if weigh is None else weigh(batch_idx)
            if weight == 0:  # a sample that is there only to take part
                kept, logits, targets = self._steps["train"].pop()
                self._steps["train"].append((kept, logits[:0], targets[:0]))
            loss = loss * weight
        self._losses_since_record.append(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the metrics need."""
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the metrics need."""
        self._step(batch, "test")

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Return what records; callbacks come before those that save, so that a checkpoint has its step's records."""
        return [_Recorder()]

    def record_step(self) -> None:
        """Record the training loss every ``log_every_n_steps`` optimizer steps."""
        every, step = self.trainer.log_every_n_steps, self.global_step  # type: ignore[attr-defined]
        # While gradients accumulate, several batches see the same global_step: only the first may record.
        if every and step % every == 0 and step != self._recorded_at:
            self._recorded_at = step
            losses = self._require_finite("train/loss", self._losses_since_record)
            self._losses_since_record.clear()
            loss = self.trainer.strategy.reduce(losses.mean(), reduce_op="mean")
            assert isinstance(loss, Tensor)
            self._record({"train/loss": loss}, lr=float(self.trainer.optimizers[0].param_groups[0]["lr"]))

    def record_epoch(self) -> None:
        """Record the epoch's mean loss and its accuracy."""
        self._record(self._measure("train"))

    def measured(self) -> dict[str, Any]:
        """Return, as plain data, what training has given since the last records."""
        steps, unrecorded = self._steps["train"], self._losses_since_record
        return {
            "steps": [torch.stack([step[0] for step in steps]), *(torch.cat([s[i] for s in steps]) for i in (1, 2))]
            if steps
            else None,
            "sizes": [len(targets) for _, _, targets in steps],
            "unrecorded": torch.stack(unrecorded) if unrecorded else None,
            "recorded_at": self._recorded_at,
        }

    def go_on_measuring(self, measured: dict[str, Any]) -> None:
        """Take up what `measured` has returned."""
        if measured["steps"] is not None:
            losses, logits, targets = (part.to(self.device) for part in measured["steps"])
            sizes = measured["sizes"]
            self._steps["train"] = list(zip(losses, logits.split(sizes), targets.split(sizes), strict=True))
        if measured["unrecorded"] is not None:
            self._losses_since_record = list(measured["unrecorded"].to(self.device))
        self._recorded_at = measured["recorded_at"]

    def on_validation_epoch_end(self) -> None:
        """Record the validation metrics and the best so far."""
        if self._losses_since_record:
            # So that a diverged training is told by the step where it began, not by what it did to validation.
            self._require_finite("train/loss", self._losses_since_record)
        measured = self._measure("val")
        if measured and not self.trainer.sanity_checking:
            for name in ("acc", "loss"):
                best = self.val_best[name]
                assert isinstance(best, Metric)
                best.update(measured[f"val/{name}"])
                measured[f"val/{name}_best"] = best.compute()
        self._record(measured)

    def on_test_epoch_end(self) -> None:
        """Record the test metrics."""
        self._record(self._measure("test"))

    def _record(self, measured: dict[str, Tensor], **more: float) -> None:
        """Give what was measured, the same in all processes, to callbacks, progress bar and loggers.

        Directly, as Lightning's LearningRateMonitor does, rather than by `log`: that costs 0.3 to 0.7 ms a value, and
        counts steps from 0 while training, but from 1 when testing. Here a row has the optimizer steps taken.
        """
        row = {name: value.item() for name, value in measured.items()}
        self.trainer.callback_metrics.update({name: value.detach().cpu() for name, value in measured.items()})
        self.trainer.progress_bar_metrics.update({name: row[name] for name in BAR if name in row})
        if not self.trainer.sanity_checking:
            for logger in self.trainer.loggers:
                logger.log_metrics(row | more | {"epoch": self.current_epoch}, step=self.global_step)

    def _measure(self, stage: Stage) -> dict[str, Tensor]:
        """Return the mean loss over the samples and the other metrics of the epoch that ends, over all processes."""
        if not self._steps[stage]:
            return {}
        losses, logits, targets = (list(kept) for kept in zip(*self._steps[stage], strict=True))
        self._steps[stage].clear()
        mean_loss, scores = self.mean_loss[f"{stage}_"], self.scores[f"{stage}_"]
        assert isinstance(mean_loss, MeanMetric)
        assert isinstance(scores, MetricCollection)
        sizes = torch.tensor([len(t) for t in targets], device=self.device)
        mean_loss.update(self._require_finite(f"{stage}/loss", losses), sizes)
        all_logits = torch.cat(logits)
        # bfloat16 has 128 values between 0.5 and 1, too few to rank scores by.
        all_logits = all_logits.to(torch.promote_types(all_logits.dtype, torch.float32))
        scores.update(self.probabilities(all_logits), torch.cat(targets))
        values: dict[str, Tensor] = scores.compute()
        name = "train/loss_epoch" if stage == "train" else f"{stage}/loss"
        loss: Tensor = mean_loss.compute()
        mean_loss.reset()
        scores.reset()
        return {name: loss, **values}

    def _require_finite(self, name: str, losses: list[Tensor]) -> Tensor:
        """Return the losses as one tensor ``(n,)``.

        Raises:
            FloatingPointError: If one of them is nan or infinite; it names the step and says what to try.
        """
        stacked = torch.stack(losses)
        finite = torch.isfinite(stacked)
        if finite.all():
            return stacked
        first = int(torch.nonzero(~finite)[0])
        step, advice = self.global_step, ""
        if name.startswith("train/"):
            step -= (len(losses) - 1 - first) // self.trainer.accumulate_grad_batches
        if self.trainer.optimizers:
            lr = self.trainer.optimizers[0].param_groups[0]["lr"]
            advice = f"; try a smaller optimizer.lr (now {lr:g}) or trainer.gradient_clip_val=1"
            if self.dtype == torch.float16:
                advice = (
                    "; float16 ends at 65504, and Adam's eps is 0 in it: try trainer.precision=bf16-true or 32-true"
                )
        raise FloatingPointError(
            f"{name} is {stacked[first].item()} at step {step}, epoch {self.current_epoch}{advice}"
        )

    def configure_optimizers(self) -> Any:
        """Make the optimizer and, if there is one, the scheduler."""
        optimizer = self.make_optimizer(self.parameters())
        if self.make_scheduler is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer, total_steps)}


class _Recorder(lightning.Callback):
    """Lets a `Classifier` record."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        pl_module.record_step()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.record_epoch()


class MulticlassClassifier(Classifier):
    """An `MLP` that tells several classes apart, trained by cross-entropy.

    Args:
        in_features: Numbers a sample has.
        num_classes: Number of classes, >= 2.
        hidden_sizes: Width of each hidden layer.
        activation: Applied after every hidden layer.
        dropout: Probability that a hidden activation is zeroed while training.
        initialization: How weights start.
        compile: Compile the network with `torch.compile`.
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the scheduler from the optimizer and the number of steps.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        in_features: int = 784,
        num_classes: int = 10,
        hidden_sizes: Sequence[int] = (128, 64),
        activation: Activation = "relu",
        dropout: float = 0.0,
        initialization: Initialization = "default",
        compile: Compile = False,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be >= 2, got {num_classes}")
        net = MLP(
            in_features=in_features,
            hidden_sizes=hidden_sizes,
            out_features=num_classes,
            activation=activation,
            dropout=dropout,
            initialization=initialization,
        )
        scores = MetricCollection(
            {
                "acc": metrics.MulticlassAccuracy(num_classes, average="micro"),
                "f1": metrics.MulticlassF1Score(num_classes, average="macro"),
                "auroc": metrics.MulticlassAUROC(num_classes),
                "ece": metrics.MulticlassCalibrationError(num_classes, n_bins=15),
            }
        )
        super().__init__(net, scores, optimizer, scheduler, compile)
        self.save_hyperparameters(ignore=["optimizer", "scheduler"], logger=False)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of logits ``(b, num_classes)`` for labels ``(b,)``, int64."""
        return F.cross_entropy(logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax of logits ``(b, num_classes)``, same shape."""
        return logits.softmax(dim=1)


class BinaryClassifier(Classifier):
    """An `MLP` with one output that tells two classes apart, trained by binary cross-entropy on logits.

    Args:
        in_features: Numbers a sample has.
        hidden_sizes: Width of each hidden layer.
        activation: Applied after every hidden layer.
        dropout: Probability that a hidden activation is zeroed while training.
        initialization: How weights start.
        compile: Compile the network with `torch.compile`.
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the scheduler from the optimizer and the number of steps.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        in_features: int = 2,
        hidden_sizes: Sequence[int] = (4,),
        activation: Activation = "relu",
        dropout: float = 0.0,
        initialization: Initialization = "default",
        compile: Compile = False,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., dict[str, Any]] | None = None,
    ) -> None:
        net = MLP(
            in_features=in_features,
            hidden_sizes=hidden_sizes,
            out_features=1,
            activation=activation,
            dropout=dropout,
            initialization=initialization,
        )
        scores = MetricCollection(
            {
                "acc": metrics.BinaryAccuracy(),
                "f1": metrics.BinaryF1Score(),
                "auroc": metrics.BinaryAUROC(),
                "ece": metrics.BinaryCalibrationError(n_bins=15),
            }
        )
        super().__init__(net, scores, optimizer, scheduler, compile)
        self.save_hyperparameters(ignore=["optimizer", "scheduler"], logger=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of shape ``(b,)`` for inputs of shape ``(b, ...)``; > 0 means class 1."""
        logits: Tensor = self.net(inputs)
        return logits.squeeze(1)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean binary cross-entropy in nats of logits ``(b,)`` for labels ``(b,)``, 0 or 1."""
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of class 1, the sigmoid of logits ``(b,)``, same shape."""
        return logits.sigmoid()
