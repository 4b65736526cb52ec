"""The LightningModule for classification: its steps, its metrics, and when they are recorded."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.aggregation import MaxMetric, MinMetric

from backlit.data.loader import BatchLoader
from backlit.models.divergence import finite_losses
from backlit.models.precision import Measures, at_least_float32

Stage = Literal["train", "val", "test"]
Compile = bool | Literal["reduce-overhead", "max-autotune"]

# The metrics in the progress bar.
BAR_METRICS = ("train/loss", "val/loss", "val/acc")


class Classifier(lightning.LightningModule):
    """A network, a loss and metrics; `MulticlassClassifier` and `BinaryClassifier` define them.

    Logits, targets and loss of each step are kept, and the metrics are updated once at the end of the epoch, since a
    torchmetrics update per step would cost more than the step. The module records

    - ``train/loss`` every ``trainer.log_every_n_steps`` optimizer steps, and at the end of an epoch that has fewer: the
      mean over the epoch's steps since the last record; and ``lr``;
    - ``train/loss_epoch`` and ``train/acc`` every epoch;
    - ``val/…`` and ``test/…``: loss, acc, f1, auroc, ece; and the best so far: ``val/acc_best``, ``val/loss_best``.

    Args:
        net: Maps ``(b, ...)`` to ``(b, out_features)``.
        scores: The metrics of a stage, including ``acc``; each is updated with the result of `probabilities` and the
            targets. They are cloned for validation and test.
        optimizer: Makes the optimizer from the parameters; None for PyTorch's Adam with its defaults.
        scheduler: Makes Lightning's scheduler config from the optimizer and the total number of optimizer steps
            (see `backlit.models.schedulers`); None for a constant learning rate.
        compile: Compile the network with `torch.compile`, in the given mode if it is a string; "reduce-overhead"
            replays CUDA graphs. Worth it on a GPU.
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
        # The CUDA graphs of this mode write every step's results to the same memory.
        self._keeps_copies = compile == "reduce-overhead"
        self.make_optimizer = torch.optim.Adam if optimizer is None else optimizer
        self.make_scheduler = scheduler
        # A training curve needs only the accuracy; the other metrics sort all scores and are computed in validation.
        self.scores = Measures(
            {
                "train_": MetricCollection({"acc": scores["acc"].clone()}, prefix="train/"),
                "val_": scores.clone(prefix="val/"),
                "test_": scores.clone(prefix="test/"),
            }
        )
        self.mean_loss = Measures({f"{stage}_": MeanMetric() for stage in ("train", "val", "test")})
        self.val_best = Measures({"acc": MaxMetric(), "loss": MinMetric()})
        for best in self.val_best.values():
            assert isinstance(best, Metric)
            best.persistent(True)
        self._steps: dict[Stage, list[tuple[Tensor, Tensor, Tensor]]] = {"train": [], "val": [], "test": []}
        self._losses_since_record: list[Tensor] = []
        self._recorded_at = 0

    def setup(self, stage: str) -> None:
        """Forget what an earlier fit or test has kept, so that a second one is as the first."""
        for steps in self._steps.values():
            steps.clear()
        kept = [*self.scores.values(), *self.mean_loss.values()]
        if stage == "fit":
            self._losses_since_record.clear()
            self._recorded_at = 0
            kept += self.val_best.values()
        for metric in kept:
            assert isinstance(metric, Metric | MetricCollection)
            metric.reset()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, shape ``()``, of logits ``(b, ...)`` for targets ``(b,)``."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits for inputs of shape ``(b, ...)``."""
        logits: Tensor = self.net(inputs)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities for logits, in the shape that torchmetrics expects."""
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
        """Return the weighted mean loss of a batch, shape ``()``.

        Its mean over processes and accumulated batches is that of all their samples.
        """
        loss = self._step(batch, "train")
        trainer = self.trainer
        if trainer.world_size > 1:
            loader = trainer.train_dataloader
            weight = loader.weight(batch_idx) if isinstance(loader, BatchLoader) else 1
            if weight == 0:  # this process has no sample left; the batch keeps it in sync with the others
                kept, logits, targets = self._steps["train"].pop()
                self._steps["train"].append((kept, logits[:0], targets[:0]))
            loss = loss * weight
        self._losses_since_record.append(loss.detach())
        return loss if trainer.accumulate_grad_batches == 1 else loss * self._share_of_step(batch_idx)

    def _share_of_step(self, batch_idx: int) -> float:
        """Return the fraction of an optimizer step's samples that a batch has, times ``accumulate_grad_batches``.

        Lightning divides every loss by ``accumulate_grad_batches``, though the last step of an epoch may have fewer
        batches, and its last batch fewer samples. Batches of another loader than ours count as equally large.
        """
        loader, every = self.trainer.train_dataloader, self.trainer.accumulate_grad_batches
        start = batch_idx - batch_idx % every
        stop = int(min(start + every, self.trainer.num_training_batches))
        if not isinstance(loader, BatchLoader):
            return every / (stop - start)
        return every * loader.samples(batch_idx, batch_idx + 1) / loader.samples(start, stop)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep logits, targets and loss for the metrics."""
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep logits, targets and loss for the metrics."""
        self._step(batch, "test")

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the probabilities of a batch's inputs, in float32 or float64, as `probabilities` returns them.

        Args:
            batch: Inputs ``(b, ...)``, alone or followed by their targets.
            batch_idx: The number of the batch.
        """
        logits = self(batch if isinstance(batch, Tensor) else batch[0])
        return self.probabilities(at_least_float32(logits))

    def configure_callbacks(self) -> list[lightning.Callback]:
        """Return the callback that records, unless the Trainer has one; it runs before those that save."""
        has_one = any(isinstance(callback, Recorder) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [] if has_one else [Recorder()]

    def record_step(self) -> None:
        """Record the training loss every ``log_every_n_steps`` optimizer steps."""
        every, step = self.trainer.log_every_n_steps, self.global_step  # type: ignore[attr-defined]
        # While gradients accumulate, several batches see the same global_step: only the first may record.
        if every and step % every == 0 and step != self._recorded_at:
            self._recorded_at = step
            self._record(self._loss_since_record(), lr=self._rate())

    def record_epoch(self) -> None:
        """Record the epoch's mean loss and its accuracy; and the training loss, if the epoch has few steps."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        steps = math.ceil(len(self._steps["train"]) / self.trainer.accumulate_grad_batches)
        if self._losses_since_record and steps < every:
            self._record(self._loss_since_record() | self._measure("train"), lr=self._rate())
        else:
            self._record(self._measure("train"))
        self._losses_since_record.clear()  # they are part of the epoch's mean; the next epoch's record is of its own

    def _loss_since_record(self) -> dict[str, Tensor]:
        """Return the mean loss of the training steps since the last record, over all processes."""
        losses = finite_losses(self, "train/loss", self._losses_since_record)
        self._losses_since_record.clear()
        loss = self.trainer.strategy.reduce(losses.mean(), reduce_op="mean")
        assert isinstance(loss, Tensor)
        return {"train/loss": loss}

    def _rate(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def metric_state(self) -> dict[str, Any]:
        """Return the training steps that are not recorded yet, as plain data for a checkpoint."""
        steps, unrecorded = self._steps["train"], self._losses_since_record
        return {
            "steps": [torch.stack([step[0] for step in steps]), *(torch.cat([s[i] for s in steps]) for i in (1, 2))]
            if steps
            else None,
            "sizes": [len(targets) for _, _, targets in steps],
            "unrecorded": torch.stack(unrecorded) if unrecorded else None,
            "recorded_at": self._recorded_at,
        }

    def load_metric_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `metric_state` returned."""
        if state["steps"] is not None:
            losses, logits, targets = (part.to(self.device) for part in state["steps"])
            sizes = state["sizes"]
            self._steps["train"] = list(zip(losses, logits.split(sizes), targets.split(sizes), strict=True))
        if state["unrecorded"] is not None:
            self._losses_since_record = list(state["unrecorded"].to(self.device))
        self._recorded_at = state["recorded_at"]

    def on_validation_epoch_end(self) -> None:
        """Record the validation metrics and the best so far."""
        if self._losses_since_record:
            # Divergence is reported with the step where it began, not by its effect on validation.
            finite_losses(self, "train/loss", self._losses_since_record)
        measured = self._measure("val")
        if self.trainer.state.fn != TrainerFn.FITTING:  # by `Trainer.validate`, to which nothing is a best so far
            self._log(measured)
            return
        if measured and not self.trainer.sanity_checking:
            for name in ("acc", "loss"):
                best = self.val_best[name]
                assert isinstance(best, Metric)
                best.update(measured[f"val/{name}"])
                measured[f"val/{name}_best"] = best.compute()
        self._record(measured)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log(self._measure("test"))

    def _log(self, measured: dict[str, Tensor]) -> None:
        """Log metrics, the same in all processes, for the table and the result of `Trainer.test` and `validate`."""
        # The largest of equal values is exactly that value, which their mean is not.
        self.log_dict(measured, reduce_fx="max", sync_dist=self.trainer.world_size > 1)

    def _record(self, measured: dict[str, Tensor], **more: float) -> None:
        """Pass metrics of a training, the same in all processes, to callbacks, progress bar and loggers.

        Done directly, as in Lightning's LearningRateMonitor, since `log` costs 0.3 to 0.7 ms per value and counts steps
        from 0 in training, but from 1 in testing. Here a row has the number of optimizer steps.
        """
        row = {name: value.item() for name, value in measured.items()}
        values = {name: value.detach().cpu() for name, value in measured.items()}
        self.trainer.callback_metrics.update(values)
        self.trainer.logged_metrics.update(values)
        self.trainer.progress_bar_metrics.update({name: row[name] for name in BAR_METRICS if name in row})
        if not self.trainer.sanity_checking:
            for logger in self.trainer.loggers:
                logger.log_metrics(row | more | {"epoch": self.current_epoch}, step=self.global_step)

    def _measure(self, stage: Stage) -> dict[str, Tensor]:
        """Return the mean loss over the samples and the other metrics of the current epoch, over all processes."""
        if not self._steps[stage]:
            return {}
        losses, logits, targets = (list(kept) for kept in zip(*self._steps[stage], strict=True))
        self._steps[stage].clear()
        mean_loss, scores = self.mean_loss[f"{stage}_"], self.scores[f"{stage}_"]
        assert isinstance(mean_loss, MeanMetric)
        assert isinstance(scores, MetricCollection)
        sizes = torch.tensor([len(t) for t in targets], device=self.device)
        mean_loss.update(finite_losses(self, f"{stage}/loss", losses), sizes)
        scores.update(self.probabilities(at_least_float32(torch.cat(logits))), torch.cat(targets))
        values: dict[str, Tensor] = scores.compute()
        name = "train/loss_epoch" if stage == "train" else f"{stage}/loss"
        loss: Tensor = mean_loss.compute()
        mean_loss.reset()
        scores.reset()
        return {name: loss, **values}

    def configure_optimizers(self) -> Any:
        """Return the optimizer, with its scheduler if there is one."""
        optimizer = self.make_optimizer(self.parameters())
        if self.make_scheduler is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer, total_steps)}


class Recorder(lightning.Callback):
    """Makes a `Classifier` record before callbacks save; Lightning calls a module's own hooks after all callbacks.

    As the first callback of a Trainer it also records before the others show an epoch's metrics.
    """

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record a step."""
        pl_module.record_step()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record an epoch."""
        pl_module.record_epoch()
