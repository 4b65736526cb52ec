"""What the network has learned, as pictures: in ``plots/`` of the run directory and in TensorBoard."""

from pathlib import Path
from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from backlit.arguments import PositiveInt, Text, check_arguments
from backlit.callbacks.attempt import Attempts
from backlit.callbacks.tensorboard import tensorboard_writers
from backlit.data import InMemoryDataModule, PointsDataModule, TensorPairs
from backlit.data.user_files import as_shown
from backlit.models import Classifier
from backlit.models.probabilities import class_probabilities, predict_probabilities
from backlit.plots.boundary import SQUARE, draw_boundary
from backlit.plots.confusion_matrix import draw_confusion_matrix
from backlit.plots.curves import draw_curves
from backlit.plots.first_layer import draw_first_layer, first_layer_images
from backlit.plots.grid import corners_around, grid_points
from backlit.plots.image import png, render
from backlit.plots.mistakes import draw_mistakes
from backlit.runs.files import atomic_write
from backlit.runs.run import read_rows


class Pictures(Callback):
    """Draws the confusion matrix, the curves of ``metrics.csv`` and pictures that depend on the data.

    For images: the most confident mistakes and the first layer's weights. For points in the plane: the decision
    boundary. The tested weights are drawn, on the test set, after the test.

    Args:
        directory: Where the PNG files go.
        every_n_steps: Number of optimizer steps between pictures during training, of the current weights on the
            validation set, in TensorBoard only. None for no such pictures. Each time takes about half a second.

    Raises:
        ValueError: If `every_n_steps` is less than 1.
    """

    def __init__(self, directory: Text | Path, every_n_steps: PositiveInt | None = None) -> None:
        check_arguments(Pictures.__init__, locals())
        self.directory = Path(directory)
        self.every_n_steps = every_n_steps
        self._drawn_at = 0
        self._attempts = Attempts()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where a resumed run stopped; draw what TensorBoard forgets then, the picture of that very step."""
        if self.every_n_steps is not None and trainer.global_step:
            self._drawn_at = trainer.global_step // self.every_n_steps * self.every_n_steps
            if self._drawn_at == trainer.global_step:
                self._draw(trainer, pl_module, "val_set", save=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Draw on the validation set if `every_n_steps` have passed."""
        if self.every_n_steps is None or trainer.global_step < self._drawn_at + self.every_n_steps:
            return
        self._drawn_at = trainer.global_step
        with self._attempts.attempt("a picture"):
            self._draw(trainer, pl_module, "val_set", save=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw on the test set, and save."""
        with self._attempts.attempt("a picture of the test"):
            self._draw(trainer, pl_module, "test_set", save=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        path = self.directory.parent / "metrics.csv"
        if trainer.is_global_zero and path.exists():
            with self._attempts.attempt("the picture of the curves"):
                self._save("curves", png(render(draw_curves(read_rows(path)))))

    def _draw(
        self, trainer: Trainer, pl_module: LightningModule, part: Literal["val_set", "test_set"], *, save: bool
    ) -> None:
        data = getattr(trainer, "datamodule", None)
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            return  # no process has the whole network
        if not (trainer.is_global_zero and isinstance(pl_module, Classifier) and isinstance(data, InMemoryDataModule)):
            return
        samples = evaluated_samples(trainer, data, part)
        if samples is None:
            return
        with trainer.precision_plugin.forward_context():  # the precision that the metrics are computed in
            probabilities = predict_probabilities(pl_module, data, samples.inputs, batch_size=data.eval_batch_size)
        for name, figure in draw_test_figures(pl_module, data, samples, probabilities).items():
            with self._attempts.attempt(f"the picture {name}"):
                pixels = render(figure)
                image = png(pixels)
                if save:
                    self._save(name, image)
                height, width, depth = pixels.shape
                shown = Summary.Image(height=height, width=width, colorspace=depth, encoded_image_string=image)
                for writer in tensorboard_writers(trainer):
                    # add_image would encode the pixels a second time.
                    summary = Summary(value=[Summary.Value(tag=name, image=shown)])
                    writer.file_writer.add_summary(summary, trainer.global_step)

    def _save(self, name: str, image: bytes) -> None:
        self.directory.mkdir(exist_ok=True)
        with atomic_write(self.directory / f"{name}.png") as temporary:
            temporary.write_bytes(image)


def evaluated_samples(
    trainer: Trainer, datamodule: InMemoryDataModule, part: Literal["val_set", "test_set"]
) -> TensorPairs | None:
    """Return the samples of which a Trainer computes its metrics: all of a set, or the first that it is limited to.

    Return None if there is no such set. The processes of a run share each batch, so their number does not matter.
    """
    samples: TensorPairs | None = getattr(datamodule, part, None)
    batches = trainer.num_test_batches if part == "test_set" else trainer.num_val_batches
    count = sum(batches) * datamodule.eval_batch_size
    if samples is None or not batches or count >= len(samples):  # no batches: no validation has taken place yet
        return samples
    return TensorPairs(samples.inputs[: int(count)], samples.targets[: int(count)])


def draw_test_figures(
    model: Classifier,
    datamodule: InMemoryDataModule,
    samples: TensorPairs,
    probabilities: Tensor,
    *,
    boundary_of: Literal["training", "test"] = "training",
) -> dict[str, Figure]:
    """Return figures of a model on samples, by name, as far as they suit the shape of the inputs.

    Args:
        model: The model.
        datamodule: The source of the samples.
        samples: The test set, for instance.
        probabilities: The model's probabilities for these samples, shape ``(n, num_classes)``, or ``(n,)`` of class 1.
        boundary_of: The points around the decision boundary: those of the training, or `samples`.
    """
    probabilities = class_probabilities(probabilities)
    names = class_names(datamodule, probabilities.shape[1])
    inputs, targets = samples.inputs, samples.targets
    figures = {"confusion_matrix": draw_confusion_matrix(probabilities, targets, names)}
    if inputs.ndim == 4:
        figures["mistakes"] = draw_mistakes(as_shown(datamodule, inputs), targets, probabilities, names)
        if (weights := first_layer_images(model.net, inputs.shape[1:])) is not None:
            figures["first_layer"] = draw_first_layer(weights)
    if isinstance(datamodule, PointsDataModule):
        points = datamodule.train_set if boundary_of == "training" else samples
        figures["boundary"] = _draw_boundary(model, datamodule, points, boundary_of)
    return figures


def class_names(datamodule: InMemoryDataModule, count: int) -> list[str]:
    """Return the names of the classes; their numbers if the data have no names."""
    return list(getattr(datamodule, "classes", None) or map(str, range(count)))


def _draw_boundary(model: Classifier, datamodule: PointsDataModule, points: TensorPairs, kind: str) -> Figure:
    """Return the figure of the learned boundary between points."""
    is_inside = bool(points.inputs.abs().max() <= 1)
    corners = SQUARE if is_inside else corners_around(points.inputs)
    grid, found = (
        predict_probabilities(model, datamodule, inputs, batch_size=datamodule.eval_batch_size)
        for inputs in (grid_points(corners), points.inputs)
    )
    return draw_boundary(
        grid,
        points.inputs,
        points.targets,
        (found > 0.5).long(),
        kind=kind,
        weights=datamodule.weights,
        offset=datamodule.offset,
        corners=corners,
    )
