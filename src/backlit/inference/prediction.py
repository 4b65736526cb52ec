"""What a prediction needs beside the network: the input's files, the run on a device, the output, a picture."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from backlit.data import UserFilesDataModule
from backlit.data.input_files import find_files
from backlit.data.readers import Reader
from backlit.data.user_files import as_shown
from backlit.errors import ConfigError
from backlit.inference.predictor import Predictions, Predictor
from backlit.inference.stored_inputs import StoredInputs
from backlit.load import LoadedRun, load_named
from backlit.logs import quiet_lightning
from backlit.models.protocol import missing_definition, takes_pixels
from backlit.plots.grid import corners_around, grid_points
from backlit.plots.image import is_own_png, png, render
from backlit.plots.predictions import draw_images, draw_points
from backlit.text import first_line


def check_output(output: Path | None) -> None:
    """Raise `ConfigError` if the output has a wrong name, or would replace a picture that is not of a prediction."""
    if output and (output.suffix not in (".csv", ".jsonl") or output.is_dir()):
        raise ConfigError([f"output must be a .csv or .jsonl file, or - for CSV on standard output, got {output}"])
    picture = output.with_suffix(".png") if output else None
    if picture and os.path.lexists(picture) and not is_own_png(picture):
        rule = "must be beside no other picture of its name"
        raise ConfigError([f"output={output} {rule}: it would replace {picture}, which backlit-predict has not drawn"])


def find_input(cfg: DictConfig, output: Path | None, reader: Any) -> list[str]:
    """Return the files of the input: of a directory those that the reader reads.

    Raises:
        ConfigError: If there is none, or if the output would replace one.
    """
    names = [str(name) for name in (cfg.input if OmegaConf.is_list(cfg.input) else [cfg.input])]
    files = find_files(names, reader.suffixes, "images" if reader.reads_images else "tables")
    for target in (output, output.with_suffix(".png")) if output else ():
        if target.exists() and any(file != "-" and os.path.samefile(file, target) for file in files):
            raise ConfigError([f"output={output} must not replace a file of the input, but would write {target}"])
    return files


@quiet_lightning()
def load_run_on_device(cfg: DictConfig) -> tuple[LoadedRun, StoredInputs]:
    """Return the run, with its network on the device, and the shape and dtype of a sample.

    Raises:
        ConfigError: If there is no such run or device, or if what it needs for images or points is missing.
    """
    run = load_named(cfg)
    if missing := missing_definition(run.model, run.datamodule):
        raise ConfigError([f"{missing}, for predictions"])
    stored = StoredInputs.of_run(run)
    name, shape = type(run.datamodule).__name__, stored.shape
    if isinstance(run.datamodule, UserFilesDataModule):
        pass  # it has a reader of its own
    elif shape != (2,) and (len(shape) != 3 or shape[0] not in (1, 3)):
        rule = "run must have data of shape (1 or 3, height, width) or (2,)"
        raise ConfigError([f"{rule}, got {shape} of {name} in {cfg.run}"])
    elif len(shape) == 3 and not takes_pixels(run.datamodule, stored.dtype):
        kind = "floats" if stored.dtype is None else str(stored.dtype).removeprefix("torch.")
        what = f"uint8 pixels of files as the {kind} that the network takes"
        raise ConfigError([f"{name} needs prepare_inputs(self, inputs, dtype), which returns {what}, for predictions"])
    try:
        device = torch.accelerator.current_accelerator() if cfg.device == "auto" else torch.device(cfg.device)
        run.model.to(device or "cpu")
    except (RuntimeError, AssertionError, TypeError) as error:
        rule = "device must be cpu, auto or a device of this machine"
        raise ConfigError([f"{rule}, got {cfg.device}: {first_line(error)}"]) from None
    return run, stored


def choose_frame(cfg: DictConfig, data: Any) -> Any:
    """Return how image files are framed: as `frame` says if the data are digits that are framed, else not at all.

    Raises:
        ConfigError: If other images are to be framed.
    """
    if getattr(data, "has_framed_digits", False):
        return cfg.frame
    if cfg.frame == "mnist":
        rule = "must be of data with has_framed_digits, such as MNIST,"
        raise ConfigError(
            [f"run {rule} for frame=mnist, got {getattr(data, 'dataset', type(data).__name__)} in {cfg.run}"]
        )
    return "none"


def check_not_empty(predictions: Predictions, reader: Reader, cfg: DictConfig) -> None:
    """Raise `ConfigError` if there was no sample; exit with code 2 if that is because no file can be read."""
    if not predictions.counts and reader.skipped:
        sys.exit(2)
    if not predictions.counts:
        raise ConfigError([f"input must have at least one sample, got none in {cfg.input}"])


def draw_picture(predictor: Predictor, predictions: Predictions, *, reads_images: bool) -> bytes | None:
    """Return the content of a PNG file with the first samples and their classes; None for rows of a table."""
    if predictions.inputs[0].ndim == 2 and isinstance(predictor.datamodule, UserFilesDataModule):
        return None
    inputs, classes = torch.cat(predictions.inputs), [str(row["class"]) for row in predictions.rows]
    shown, total = len(classes), predictions.counts.total()
    title = f"{shown:,}" if shown == total else f"{shown:,} of {total:,}"
    if reads_images:
        return png(render(draw_images(as_shown(predictor.datamodule, inputs), classes, predictions.confidences, title)))
    corners = corners_around(inputs)
    class_1 = predictor.names[1] if len(predictor.names) == 2 else "1"
    background = predictor.probabilities(grid_points(corners))
    return png(render(draw_points(inputs, classes, background, corners, class_1=class_1, title=title)))


@contextlib.contextmanager
def report_unwritable(output: str | None) -> Iterator[None]:
    """Turn an output that cannot be written into a `ConfigError`; on standard output, exit with code 1."""
    try:
        yield
    except OSError as error:  # not of the input: unreadable files have been reported and skipped
        if output == "-":
            if not isinstance(error, BrokenPipeError):  # a reader that has seen enough closes a pipe
                print(f"error: output=- cannot be written to standard output: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        raise ConfigError([f"output must be a file that can be written, got {output}: {error.strerror}"]) from None
