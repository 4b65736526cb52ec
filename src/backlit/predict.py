"""``backlit-predict``: prints the predictions of a run's network for new images or points."""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.table import Table

from backlit.cli.app import run_command
from backlit.errors import ConfigError
from backlit.logs import quiet_lightning
from backlit.runs.files import atomic_write
from backlit.text import first_line, shell_path

if TYPE_CHECKING:
    from backlit.data.readers import Reader
    from backlit.load import LoadedRun
    from backlit.models.predictor import Predictions, Predictor

# Rows of the table on the console; the file has all samples.
MOST_ROWS = 20


def main() -> None:
    """Run ``backlit-predict``."""
    run_command(predict, "predict")


def predict(cfg: DictConfig) -> Counter[str]:
    """Predict the class of every sample of the input, and return the number of samples of each class.

    Args:
        cfg: What ``conf/predict.yaml`` composes to.

    Raises:
        ConfigError: If there is no such run, if the input does not fit it, or if the output cannot be written; nothing
            is written then.
        SystemExit: If files cannot be read; each is named on stderr. With code 1 after all others are done; with code 2
            and nothing written if there are no others.
    """
    _check_values(cfg)
    from backlit.data.readers import Reader
    from backlit.models.predictor import Predictor

    output = None if cfg.output in (None, "-") else Path(str(cfg.output))
    files = _find_input(cfg, output)
    if cfg.output == "-":
        rich.reconfigure(stderr=True)  # where the logs go then, too
    run = _load(cfg)
    data: Any = run.datamodule
    model: Any = run.model
    reader = Reader(tuple(data.input_shape), cfg.batch_size, invert=None if cfg.invert == "auto" else cfg.invert)
    predictor = Predictor(model, data, cfg.batch_size)
    with _report_unwritable(cfg.output):
        if output is None:
            predictions = predictor.predict_files(reader, files, sys.stdout if cfg.output == "-" else None, "csv")
            _check_not_empty(predictions, reader, cfg)
        else:
            with atomic_write(output.with_suffix(".png")) as picture, atomic_write(output) as temporary:
                with temporary.open("w", newline="", encoding="utf-8") as file:
                    format: Any = output.suffix.removeprefix(".")
                    predictions = predictor.predict_files(reader, files, file, format)
                _check_not_empty(predictions, reader, cfg)
                picture.write_bytes(_picture(predictor, predictions, reads_images=reader.reads_images))
    where = "all, with a picture: output=predictions.csv (or .jsonl); all on stdout: output=-"
    if cfg.output:
        where = f"written   {shell_path(output)}, {shell_path(output.with_suffix('.png'))}" if output else ""
    _show(predictions, reader, [f"weights   {shell_path(run.checkpoint)}", where])
    if reader.skipped:
        sys.exit(1)
    return predictions.counts


def _check_values(cfg: DictConfig) -> None:
    """Raise `ConfigError` if a value is missing or out of range."""
    if missing := [name for name in ("run", "input") if OmegaConf.is_missing(cfg, name) or not cfg[name]]:
        raise ConfigError([f"{name} must be given: backlit-predict run=latest input=digits" for name in missing])
    if not isinstance(cfg.batch_size, int) or cfg.batch_size < 1:
        raise ConfigError([f"batch_size must be a whole number >= 1, got {cfg.batch_size}"])
    if cfg.invert not in ("auto", True, False):
        raise ConfigError([f"invert must be auto, true or false, got {cfg.invert}"])


def _find_input(cfg: DictConfig, output: Path | None) -> list[str]:
    """Return the files of the input.

    Raises:
        ConfigError: If there is none, if the output has a wrong name, or if it would replace a file of the input.
    """
    from backlit.data.input_files import find_files

    if output and (output.suffix not in (".csv", ".jsonl") or output.is_dir()):
        raise ConfigError([f"output must be a .csv or .jsonl file, or - for CSV on standard output, got {output}"])
    files = find_files([str(name) for name in (cfg.input if OmegaConf.is_list(cfg.input) else [cfg.input])])
    for target in (output, output.with_suffix(".png")) if output else ():
        if target.exists() and any(file != "-" and os.path.samefile(file, target) for file in files):
            raise ConfigError([f"output={output} must not replace a file of the input, but would write {target}"])
    return files


@quiet_lightning()
def _load(cfg: DictConfig) -> "LoadedRun":
    """Return the run, with its network on the device.

    Raises:
        ConfigError: If there is no such run or device, or if it is no run of a classifier of images or points.
    """
    import torch

    from backlit.load import load_named
    from backlit.models import Classifier

    run = load_named(cfg)
    if not isinstance(run.model, Classifier):
        raise ConfigError([f"run must have a backlit.models.Classifier, got {type(run.model).__name__} in {cfg.run}"])
    data: Any = run.datamodule
    shape = tuple(getattr(data, "input_shape", ()))
    if not hasattr(data, "prepare_inputs") or (shape != (2,) and (len(shape) != 3 or shape[0] != 1)):
        rule = "run must have data with prepare_inputs and an input_shape of (1, height, width) or (2,)"
        raise ConfigError([f"{rule}, got {type(data).__name__} with {shape or 'none'} in {cfg.run}"])
    try:
        device = torch.accelerator.current_accelerator() if cfg.device == "auto" else torch.device(cfg.device)
        run.model.to(device or "cpu")
    except (RuntimeError, AssertionError, TypeError) as error:
        rule = "device must be cpu, auto or a device of this machine"
        raise ConfigError([f"{rule}, got {cfg.device}: {first_line(error)}"]) from None
    return run


def _check_not_empty(predictions: "Predictions", reader: "Reader", cfg: DictConfig) -> None:
    """Raise `ConfigError` if there was no sample; exit with code 2 if that is because no file can be read."""
    if not predictions.counts and reader.skipped:
        sys.exit(2)
    if not predictions.counts:
        raise ConfigError([f"input must have at least one sample, got none in {cfg.input}"])


def _picture(predictor: "Predictor", predictions: "Predictions", *, reads_images: bool) -> bytes:
    """Return the content of a PNG file with the first samples and their classes."""
    import torch

    from backlit.plots.grid import corners_around, grid_points
    from backlit.plots.image import png, render
    from backlit.plots.predictions import draw_images, draw_points

    inputs, classes = torch.cat(predictions.inputs), [str(row["class"]) for row in predictions.rows]
    shown, total = len(classes), predictions.counts.total()
    title = f"{shown:,}" if shown == total else f"{shown:,} of {total:,}"
    if reads_images:
        return png(render(draw_images(inputs, classes, predictions.confidences, title)))
    corners = corners_around(inputs)
    class_1 = predictor.labels[1] if predictor.labels else "1"
    background = predictor.probabilities(grid_points(corners))
    return png(render(draw_points(inputs, classes, background, corners, class_1=class_1, title=title)))


@contextlib.contextmanager
def _report_unwritable(output: str | None) -> Iterator[None]:
    """Turn an output that cannot be written into a `ConfigError`; exit with code 1 if standard output is closed."""
    try:
        yield
    except BrokenPipeError:
        # The reader of standard output has closed it; Python would complain at exit that it cannot be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # not of the input: unreadable files have been reported and skipped
        raise ConfigError([f"output must be a file that can be written, got {output}: {error.strerror}"]) from None


def _show(predictions: "Predictions", reader: "Reader", ending: Sequence[str]) -> None:
    """Print the first rows, the number of samples of each class, and some last lines."""
    rows, counts = predictions.rows[:MOST_ROWS], predictions.counts
    grid = Table(box=box.SIMPLE_HEAD)
    names = [name for name in rows[0] if any(row[name] is not False for row in rows)]
    for name in names:
        justify: Any = "right" if isinstance(rows[0][name], float) else "left"
        grid.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(row[name]) for name in names))
    total, what = counts.total(), "images" if reader.reads_images else "points"
    lines = [f"and {total - len(rows):,} more"] if total > len(rows) else []
    lines.append("  ".join([f"{what} by class:", *(f"{name}: {n:,}" for name, n in sorted(counts.items()))]))
    if reader.inverted:
        lines.append(f"{reader.inverted:,} of {total:,} images were dark on light and were inverted")
    console = rich.get_console()
    # A file or a pipe has no width.
    console.print(grid, markup=False, highlight=False, width=None if console.is_terminal else 1000)
    text = "\n".join(f"  {line}" for line in (*lines, *ending) if line)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _cell(value: object) -> str:
    """Return a value as a cell of the table."""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
