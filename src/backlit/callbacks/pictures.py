"""What the network has learned, as pictures: in ``plots/`` of the run directory and where the loggers write."""

import logging
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from matplotlib.figure import Figure
from torch import Tensor

from backlit.arguments import PositiveInt, Text, check_arguments
from backlit.callbacks.attempt import Attempts
from backlit.callbacks.evaluated import Evaluated, Part, evaluate_samples
from backlit.data import PointsDataModule, TensorPairs
from backlit.data.user_files import as_shown
from backlit.loggers.session import log_picture
from backlit.models.probabilities import class_probabilities, predict_probabilities
from backlit.models.protocol import class_labels, missing_definition
from backlit.plots.boundary import SQUARE, draw_boundary
from backlit.plots.confusion_matrix import draw_confusion_matrix
from backlit.plots.curves import draw_curves
from backlit.plots.first_layer import draw_first_layer, first_layer_images
from backlit.plots.grid import corners_around, grid_points
from backlit.plots.image import png, render
from backlit.plots.mistakes import draw_mistakes
from backlit.runs.files import atomic_write
from backlit.runs.run import read_rows
from backlit.text import first_line

log = logging.getLogger(__name__)


class Pictures(Callback):
    """Draws the confusion matrix, the curves of ``metrics.csv`` and pictures that depend on the data.

    For images: the most confident mistakes and the first layer's weights. For points in the plane: the decision
    boundary. The tested weights are drawn, on the test set, after the test.

    Args:
        directory: Where the PNG files go.
        every_n_steps: Number of optimizer steps between pictures during training, of the current weights on the
            validation set, for the loggers only. None for no such pictures. Each time takes about half a second.

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
                self._draw(trainer, pl_module, "val", save=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Draw on the validation set if `every_n_steps` have passed."""
        if self.every_n_steps is None or trainer.global_step < self._drawn_at + self.every_n_steps:
            return
        self._drawn_at = trainer.global_step
        with self._attempts.attempt("a picture"):
            self._draw(trainer, pl_module, "val", save=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw on the test set, and save."""
        with self._attempts.attempt("a picture of the test"):
            self._draw(trainer, pl_module, "test", save=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        path = self.directory.parent / "metrics.csv"
        if trainer.is_global_zero and path.exists():
            with self._attempts.attempt("the picture of the curves"):
                self._save("curves", png(render(draw_curves(read_rows(path)))))

    def _draw(self, trainer: Trainer, pl_module: LightningModule, part: Part, *, save: bool) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            return  # no process has the whole network
        if not trainer.is_global_zero:
            return
        if missing := missing_definition(pl_module, data):
            if save:
                log.info("no confusion matrix: %s", missing)
            return
        try:
            found = evaluate_samples(trainer, pl_module, data, part)
        except ValueError as error:
            if save:
                log.info("no confusion matrix: %s", first_line(error))
            return
        if found is None:
            return
        for name, figure in draw_test_figures(pl_module, data, found).items():
            with self._attempts.attempt(f"the picture {name}"):
                image = png(render(figure))
                if save:
                    self._save(name, image)
                for logger in trainer.loggers:
                    log_picture(logger, name, image, trainer.global_step)

    def _save(self, name: str, image: bytes) -> None:
        self.directory.mkdir(exist_ok=True)
        with atomic_write(self.directory / f"{name}.png") as temporary:
            temporary.write_bytes(image)


def draw_test_figures(
    model: LightningModule,
    datamodule: LightningDataModule,
    found: Evaluated,
    *,
    boundary_of: Literal["training", "test"] = "training",
) -> dict[str, Figure]:
    """Return figures of a model on samples, by name, as far as they suit the shape of the inputs.

    Args:
        model: The model.
        datamodule: The source of the samples.
        found: The samples of the test set, for instance, with the model's probabilities.
        boundary_of: The points around the decision boundary: those of the training, or the samples.
    """
    probabilities = class_probabilities(found.probabilities)
    names = class_labels(datamodule, probabilities.shape[1])
    inputs, targets = found.inputs, found.targets
    figures = {"confusion_matrix": draw_confusion_matrix(probabilities, targets, names)}
    if inputs is not None and inputs.ndim == 4:
        shown = as_shown(datamodule, _as_pixels(inputs))
        figures["mistakes"] = draw_mistakes(shown, targets, probabilities, names)
        net: Any = getattr(model, "net", model)
        if (weights := first_layer_images(net, tuple(inputs.shape[1:]))) is not None:
            figures["first_layer"] = draw_first_layer(weights)
    if isinstance(datamodule, PointsDataModule) and inputs is not None:
        points = datamodule.train_set if boundary_of == "training" else TensorPairs(inputs, targets)
        figures["boundary"] = _draw_boundary(model, datamodule, points, boundary_of)
    return figures


def _as_pixels(images: Tensor) -> Tensor:
    """Return images ``(n, ...)`` from 0 to 255; floats are stretched from their lowest to their highest value."""
    if not images.is_floating_point():
        return images
    low, high = images.min(), images.max()
    return (images - low) * (255 / (high - low).clamp(min=1e-12))


def _draw_boundary(model: LightningModule, datamodule: PointsDataModule, points: TensorPairs, kind: str) -> Figure:
    """Return the figure of the learned boundary between points."""
    is_inside = bool(points.inputs.abs().max() <= 1)
    corners = SQUARE if is_inside else corners_around(points.inputs)
    grid, found = (
        class_probabilities(predict_probabilities(model, datamodule, inputs, batch_size=datamodule.eval_batch_size))[
            :, 1
        ]
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
