"""A module and data as a user writes them: plain Lightning, a shuffling DataLoader with random samples, `self.log`."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import torch
import torchmetrics.classification
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset


class NoisyPoints(Dataset[tuple[Tensor, Tensor]]):
    """Points that move a little whenever they are read."""

    def __init__(self, size: int) -> None:
        self.points = torch.randn(size, 2, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        point = self.points[index]
        return point + 0.1 * torch.randn(2), (point.sum() > 0).long()


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """The same points in a random order, of unknown number."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        points = NoisyPoints(120)
        return (points[i] for i in torch.randperm(len(points)).tolist())


class PlainData(lightning.LightningDataModule):
    """Epochs of 20 batches."""

    def __init__(
        self, num_workers: int = 0, seed: int | None = None, streams: bool = False, persists: bool = False
    ) -> None:
        super().__init__()
        self.more: dict[str, Any] = {"batch_size": 6, "num_workers": num_workers, "persistent_workers": persists}
        if seed is not None:
            self.more["generator"] = torch.Generator().manual_seed(seed)
        self.streams = streams

    def train_dataloader(self) -> DataLoader[Any]:
        return (
            DataLoader(Stream(), **self.more)
            if self.streams
            else DataLoader(NoisyPoints(120), shuffle=True, **self.more)
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(NoisyPoints(30), batch_size=10)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(NoisyPoints(30), batch_size=10)


class PlainModule(lightning.LightningModule):
    """A network that logs means, extremes, sums and a metric of an epoch."""

    def __init__(self, optimizer: Callable[..., Any], scheduler: Callable[..., Any] | None = None) -> None:
        super().__init__()
        layers = (nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))
        self.net = nn.Sequential(*layers)
        self.accuracy = torchmetrics.classification.BinaryAccuracy()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        logits = self.net(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.accuracy(logits.argmax(1), batch[1])
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/acc", self.accuracy, on_step=False, on_epoch=True)
        self.log("train/largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.log("train/sum", loss, on_step=False, on_epoch=True, reduce_fx="sum")
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test/loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        if self.make_scheduler is None:
            return optimizer
        return [optimizer], [self.make_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))]
