"""What the network learned, as pictures: in ``plots/`` of the run directory and in TensorBoard."""

import csv
import io
import math
from collections import defaultdict
from pathlib import Path

import numpy
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torchmetrics.functional import confusion_matrix

from backlit.callbacks.tensorboard import writers
from backlit.data import InMemoryDataModule, PointsDataModule, TensorPairs
from backlit.models import Classifier
from backlit.run import whole_file

# One colour a class of points, told apart by colour-blind readers too.
BLUE, ORANGE = "#2166ac", "#d6604d"


class Pictures(Callback):
    """Draws what fits the data: for images the confusion matrix, the most confident mistakes and the first
    layer's weights; for points in the plane the decision boundary. The curves of ``metrics.csv`` in any case.

    They are drawn from the tested weights on the test set once testing has ended.

    Args:
        directory: Where the PNG files go.
        every_n_steps: Draw also while training, from the weights of the moment on the validation set, into
            TensorBoard alone, every so many optimizer steps; None for not at all. It costs about half a
            second each time.

    Raises:
        ValueError: If `every_n_steps` is less than 1.
    """  # noqa: D205

    def __init__(self, directory: str, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be >= 1 or null, got {every_n_steps}")
        self.directory = Path(directory)
        self.every_n_steps = every_n_steps
        self._last = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Draw on the validation set, if it is time."""
        if self.every_n_steps is None or trainer.global_step < self._last + self.every_n_steps:
            return
        self._last = trainer.global_step
        self._draw(trainer, pl_module, "val_set", save=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw on the test set, and save."""
        self._draw(trainer, pl_module, "test_set", save=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        path = self.directory.parent / "metrics.csv"
        if trainer.is_global_zero and path.exists():
            self._save("curves", png(render(draw_curves(path))))

    def _draw(self, trainer: Trainer, pl_module: LightningModule, part: str, *, save: bool) -> None:
        data = getattr(trainer, "datamodule", None)
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            return  # no process has the whole network
        if not (trainer.is_global_zero and isinstance(pl_module, Classifier) and isinstance(data, InMemoryDataModule)):
            return
        samples: TensorPairs | None = getattr(data, part, None)
        if samples is None:
            return
        for name, figure in draw(pl_module, data, samples).items():
            pixels = render(figure)
            image = png(pixels)
            height, width, channels = pixels.shape
            of_board = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=image)
            for writer in writers(trainer):
                # Not add_image, which would pack the pixels once more.
                summary = Summary(value=[Summary.Value(tag=name, image=of_board)])
                writer._get_file_writer().add_summary(summary, trainer.global_step)
            if save:
                self._save(name, image)

    def _save(self, name: str, image: bytes) -> None:
        self.directory.mkdir(exist_ok=True)
        with whole_file(self.directory / f"{name}.png") as temporary:
            temporary.write_bytes(image)


def render(figure: Figure) -> NDArray[numpy.uint8]:
    """Return a figure as an image of shape ``(height, width, 3)``: drawing it is what costs, so once for all uses."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return numpy.asarray(canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[no-untyped-call]


def png(pixels: NDArray[numpy.uint8]) -> bytes:
    """Return an image of shape ``(height, width, 3)`` as the content of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", compress_level=3)
    return file.getvalue()


@torch.no_grad()
def predict(model: Classifier, data: InMemoryDataModule, inputs: Tensor) -> Tensor:
    """Return the probabilities, on the CPU, that `model` gives for stored inputs of shape ``(n, ...)``.

    Shape ``(n, num_classes)`` for several classes, ``(n,)`` (of class 1) for two; float32 or float64.
    """
    was_training = model.training
    model.eval()
    assert isinstance(model.dtype, torch.dtype)
    parts = []
    for chunk in torch.split(inputs, data.eval_batch_size):
        logits = model(data.prepare_inputs(chunk.to(model.device), model.dtype))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        parts.append(model.probabilities(logits).cpu())
    model.train(was_training)
    return torch.cat(parts)


def draw(model: Classifier, data: InMemoryDataModule, samples: TensorPairs) -> dict[str, Figure]:
    """Return the figures, by name, that fit the shape of the inputs."""
    probabilities = predict(model, data, samples.inputs)
    several = torch.stack([1 - probabilities, probabilities], 1) if probabilities.ndim == 1 else probabilities
    names = getattr(data, "classes", None) or [str(c) for c in range(several.shape[1])]
    figures = {"confusion_matrix": draw_confusion_matrix(several, samples.targets, names)}
    if samples.inputs.ndim == 4:
        figures["mistakes"] = draw_mistakes(samples, several, names)
        first = next((p for p in model.net.parameters() if p.ndim == 2), None)
        if first is not None and first.shape[1] == math.prod(samples.inputs.shape[-2:]):
            figures["first_layer"] = draw_first_layer(first.detach().float().cpu(), samples.inputs.shape[-2:])
    if isinstance(data, PointsDataModule):
        figures["boundary"] = draw_boundary(model, data)
    return figures


def draw_confusion_matrix(probabilities: Tensor, targets: Tensor, names: list[str]) -> Figure:
    """Return the counts of true (row) and predicted (column) classes, shaded by the share of the row.

    Args:
        probabilities: Shape ``(n, num_classes)``.
        targets: Shape ``(n,)``.
        names: What the classes are called.
    """
    classes = probabilities.shape[1]
    counts = confusion_matrix(probabilities.argmax(1), targets, task="multiclass", num_classes=classes)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    right = int(counts.diag().sum())
    labels = [name.split(" - ")[0] for name in names]
    longest = max(map(len, labels))
    # In inches. matplotlib would find the margins by drawing all of it twice.
    side, margin, top = max(2.4, 0.6 + 0.55 * classes), 0.6 + 0.09 * longest, 0.4
    width, height = margin + side + 0.15, margin + side + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(classes):
        for column in range(classes):
            if count := int(counts[row, column]):
                dark = shares[row, column] > 0.5
                axes.text(
                    column,
                    row,
                    f"{count}",
                    ha="center",
                    va="center",
                    size=8,
                    color="white" if dark else "black",
                )
    axes.set_xticks(range(classes), labels, rotation=0 if longest < 3 else 90)
    axes.set_yticks(range(classes), labels)
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:,} of {len(targets):,} right")
    return figure


def draw_mistakes(samples: TensorPairs, probabilities: Tensor, names: list[str], count: int = 25) -> Figure:
    """Return the wrongly classified images of which the network was surest.

    Args:
        samples: Images ``(n, 1, h, w)`` and labels ``(n,)``.
        probabilities: Shape ``(n, num_classes)``.
        names: What the classes are called.
        count: How many at most.
    """
    confidence, predicted = probabilities.max(1)
    wrong = torch.nonzero(predicted != samples.targets).flatten()
    worst = wrong[confidence[wrong].argsort(descending=True)][:count]
    figure, axes = _sheet(7.5, 8.4)
    axes.set_title(f"The surest of {len(wrong):,} mistakes in {len(samples.targets):,}: true → predicted (probability)")
    if len(worst):
        height, width = samples.inputs.shape[-2:]
        gap = max(2, height // 3)  # where the labels go
        columns = math.ceil(math.sqrt(count))
        axes.imshow(tile(samples.inputs[worst, 0].float(), columns, gap), cmap="gray_r", vmin=0, vmax=255)
        labels = [name.split(" - ")[0] for name in names]
        for place, index in enumerate(worst.tolist()):
            row, column = divmod(place, columns)
            text = f"{labels[int(samples.targets[index])]} → {labels[int(predicted[index])]} ({confidence[index]:.3f})"
            middle = gap + column * (width + gap) + width / 2
            axes.text(middle, (row + 1) * gap + row * height - 1, text, ha="center", va="bottom", size=9)
    return figure


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure, its size in inches, filled by axes that have a title and nothing else."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.94))
    axes.axis("off")
    return figure, axes


def tile(images: Tensor, columns: int, gap: int) -> NDArray[numpy.float32]:
    """Return images ``(n, h, w)`` as one, row by row, above and left of each `gap` pixels of nan, which stay blank.

    One picture of all is drawn in a tenth of the time that matplotlib takes for as many axes.
    """
    count, height, width = images.shape
    rows = math.ceil(count / columns)
    cells = torch.full((rows * columns, gap + height, gap + width), math.nan)
    cells[:count, gap:, gap:] = images
    grid = cells.reshape(rows, columns, gap + height, gap + width).transpose(1, 2)
    return grid.reshape(rows * (gap + height), columns * (gap + width)).numpy()


def draw_first_layer(weights: Tensor, shape: torch.Size, count: int = 64) -> Figure:
    """Return the first layer's weights as images: red where a bright pixel excites the unit, blue where it inhibits.

    Args:
        weights: Shape ``(hidden, h * w)``; the units with the largest norm are shown.
        shape: ``(h, w)``.
        count: How many units at most.
    """
    strongest = weights.norm(dim=1).argsort(descending=True)[:count]
    limit = float(weights[strongest].abs().quantile(0.995))
    figure, axes = _sheet(7.5, 7.9)
    axes.set_title(f"First layer: {len(strongest)} of {len(weights)} units by weight norm, ±{limit:.2g}")
    images = weights[strongest].reshape(-1, *shape)
    columns = math.ceil(math.sqrt(len(strongest)))
    axes.imshow(tile(images, columns, gap=2), cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def draw_boundary(model: Classifier, data: PointsDataModule, resolution: int = 200) -> Figure:
    """Return the probability of class 1 over the square, the training points, and the line that was to be learned."""
    ticks = torch.linspace(-1, 1, resolution)
    grid = torch.cartesian_prod(ticks, ticks)
    probability = predict(model, data, grid).reshape(resolution, resolution).T
    points, labels = data.train_set.inputs, data.train_set.targets
    predicted = (predict(model, data, points) > 0.5).long()
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    shade = axes.imshow(
        probability.numpy(), origin="lower", extent=(-1, 1, -1, 1), cmap="RdBu_r", vmin=0, vmax=1, alpha=0.45
    )
    figure.colorbar(shade, label="probability of class 1", shrink=0.85)
    axes.contour(ticks.numpy(), ticks.numpy(), probability.numpy(), levels=[0.5], colors="black", linewidths=1.5)
    for label, colour in ((0, BLUE), (1, ORANGE)):
        chosen = points[labels == label].numpy()
        axes.scatter(chosen[:, 0], chosen[:, 1], s=22, color=colour, edgecolors="white", linewidths=0.6)
    wrong = points[predicted != labels].numpy()
    axes.scatter(wrong[:, 0], wrong[:, 1], s=90, facecolors="none", edgecolors="black", linewidths=1.2)
    # The line w·p + b = 0 through its point nearest to the centre, along its direction, long enough for the square.
    normal = torch.tensor(data.weights, dtype=torch.float64)
    foot = -data.offset * normal / normal.dot(normal)
    along = torch.stack([-normal[1], normal[0]]) / normal.norm() * 3
    ends = torch.stack([foot - along, foot + along]).numpy()
    axes.plot(ends[:, 0], ends[:, 1], "--", color="black", linewidth=1)
    right = len(points) - len(wrong)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xlabel="x", ylabel="y", aspect="equal")
    axes.set_title(
        f"{right} of {len(points)} training points right\nsolid: learned (0.5), dashed: given, ringed: wrong"
    )
    return figure


def draw_curves(path: Path) -> Figure:
    """Return loss and accuracy over the optimizer steps, as ``metrics.csv`` has them."""
    curves: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    curves[name][0].append(int(row["step"]))
                    curves[name][1].append(float(value))
    figure = Figure(figsize=(9, 4))
    margins = {"left": 0.07, "right": 0.985, "bottom": 0.13, "top": 0.92, "wspace": 0.16}
    for axes, kind in zip(figure.subplots(1, 2, gridspec_kw=margins), ("loss", "acc"), strict=True):
        for name, style in ((f"train/{kind}", {"color": BLUE}), (f"val/{kind}", {"color": ORANGE})):
            if name in curves:
                # A few points need their marks; hundreds of them would hide the curve.
                marker = "o" if len(curves[name][0]) <= 20 else ""
                axes.plot(*curves[name], marker=marker, markersize=4, label=name, **style)
        axes.set(xlabel="optimizer steps", title={"loss": "loss", "acc": "accuracy"}[kind])
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return figure
