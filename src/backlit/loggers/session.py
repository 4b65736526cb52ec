"""What each logger of a run gets beside metrics: the hyperparameters, pictures, how the run ended."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary

from backlit.config.loggers import run_argument
from backlit.loggers.comet import CometLogger
from backlit.loggers.metrics_csv import MetricsCSV
from backlit.loggers.mlflow import MLFlowLogger
from backlit.loggers.tensorboard import TensorBoardLogger
from backlit.runs.read_record import is_server_id

# W&B calls a run with another exit code than 0 failed.
_EXIT_CODES = {"completed": 0, "failed": 1, "interrupted": 130}


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what loggers list of a run's config, which is plain data."""
    trainer = ("max_epochs", "accelerator", "devices", "precision", "accumulate_grad_batches", "gradient_clip_val")
    chosen: dict[str, Any] = {
        group: {key: value for key, value in config[group].items() if not key.startswith("_")}
        for group in ("data", "model", "optimizer", "scheduler")
    }
    return chosen | {"seed": config["seed"], "trainer": {name: config["trainer"].get(name) for name in trainer}}


def begin_session(logger: Logger, listed: Mapping[str, Any]) -> None:
    """Begin a logger's record of a run, or continue it.

    Args:
        logger: The logger.
        listed: The hyperparameters: names to values, or to mappings of names to values.

    Raises:
        Exception: Of any kind, if its server does not take the run.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.begin_session(listed)
    elif not isinstance(logger, MetricsCSV):
        if isinstance(logger, loggers.WandbLogger) and logger.save_dir:
            Path(logger.save_dir).mkdir(parents=True, exist_ok=True)  # else W&B takes another directory
        logger.log_hyperparams(dict(listed))


def server_run(logger: Logger) -> str | None:
    """Return what a logger's server calls the run, once its session has begun; None if nobody can continue that."""
    version: Any = logger.version
    return str(version) if run_argument(type(logger)) and is_server_id(version) else None


def log_picture(logger: Logger, name: str, png: bytes, step: int) -> None:
    """Give a picture to a logger, if it takes pictures: TensorBoard, MLflow, and what has `log_image` as W&B has it.

    Args:
        logger: The logger.
        name: The picture's name.
        png: The content of a PNG file.
        step: Optimizer steps taken.
    """
    image = Image.open(BytesIO(png))
    if isinstance(logger, loggers.TensorBoardLogger):
        # add_image would encode the pixels a second time.
        shown = Summary.Image(
            height=image.height, width=image.width, colorspace=len(image.getbands()), encoded_image_string=png
        )
        logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=shown)]), step)
    elif isinstance(logger, loggers.MLFlowLogger):
        logger.experiment.log_image(logger.run_id, image, key=name, step=step)
    elif callable(log_image := getattr(logger, "log_image", None)):
        log_image(key=name, images=[image], step=step)


def end_session(logger: Logger, status: str) -> None:
    """End a logger's record of a run whose session has begun.

    Args:
        logger: The logger.
        status: ``completed``, ``failed`` or ``interrupted``.
    """
    if isinstance(logger, TensorBoardLogger | MLFlowLogger | CometLogger):
        logger.end_session(status)
    elif isinstance(logger, loggers.WandbLogger):
        logger.experiment.finish(exit_code=_EXIT_CODES[status])
    else:
        logger.finalize("success" if status == "completed" else "failed")
