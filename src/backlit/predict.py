"""``backlit-predict``: prints the predictions of a run's network for new images or points."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich
from omegaconf import DictConfig, OmegaConf

from backlit.cli.app import run_command
from backlit.config.top_level import PREDICT, check_command
from backlit.errors import ConfigError
from backlit.runs.files import atomic_write, parents_made
from backlit.streams import open_product_stream
from backlit.text import metric_text, printable, shell_path, text_table

if TYPE_CHECKING:
    from backlit.data.readers import Reader
    from backlit.inference.predictor import Predictions

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
    from backlit.data import MNISTDataModule, TableDataModule, UserFilesDataModule
    from backlit.data.pictures import PictureReader
    from backlit.data.readers import Reader
    from backlit.inference.prediction import (
        check_not_empty,
        check_output,
        choose_frame,
        draw_picture,
        find_input,
        load_run_on_device,
        report_unwritable,
    )
    from backlit.inference.predictor import Predictor

    output = None if cfg.output in (None, "-") else Path(str(cfg.output))
    check_output(output)
    if cfg.output == "-":
        rich.reconfigure(stderr=True)  # where the logs go then, too
    run, stored = load_run_on_device(cfg)
    assert run.checkpoint is not None
    data = run.datamodule
    # MNIST is bright on dark, as no paper is; other images are taken as they are.
    invert_auto = None if isinstance(data, MNISTDataModule) else False
    frame, invert = choose_frame(cfg, data), invert_auto if cfg.invert == "auto" else cfg.invert
    if isinstance(data, UserFilesDataModule):
        reader: Any = data.reader(cfg.batch_size)
    elif stored.shape[0] == 3:
        _, height, width = stored.shape
        reader = PictureReader((3, height, width), cfg.batch_size)
    else:
        reader = Reader(stored.shape, cfg.batch_size, invert=invert, frame=frame)
    files = find_input(cfg, output, reader)
    predictor = Predictor(run.model, data, cfg.batch_size)
    written = [] if output is None else [output]
    with report_unwritable(cfg.output):
        if cfg.output == "-":
            with open_product_stream() as stream:
                predictions = predictor.predict_files(reader, files, stream, "csv")
            check_not_empty(predictions, reader, cfg)
        elif output is None:
            predictions = predictor.predict_files(reader, files, None, "csv")
            check_not_empty(predictions, reader, cfg)
        else:
            with parents_made(output), atomic_write(output) as temporary:
                with temporary.open("w", newline="", encoding="utf-8") as file:
                    format: Any = output.suffix.removeprefix(".")
                    predictions = predictor.predict_files(reader, files, file, format)
                check_not_empty(predictions, reader, cfg)
                content = draw_picture(predictor, predictions, reads_images=reader.reads_images)
                if content is not None:
                    written.append(output.with_suffix(".png"))
                    with atomic_write(written[-1]) as picture:
                        picture.write_bytes(content)
    files_written = "all" if isinstance(data, TableDataModule) else "all, with a picture"
    where = f"{files_written}: output=predictions.csv (or .jsonl); all on stdout: output=-"
    if cfg.output:
        where = f"written   {', '.join(map(shell_path, written))}" if written else ""
    folders = {os.path.dirname(file) for file in files}
    counted = f"input     {len(files):,} files in {len(folders):,} folder{'s' if len(folders) > 1 else ''}"
    _show(predictions, reader, [counted if len(files) > 1 else "", f"weights   {shell_path(run.checkpoint)}", where])
    if reader.skipped:
        sys.exit(1)
    return predictions.counts


def _check_values(cfg: DictConfig) -> None:
    """Raise `ConfigError` if a value is missing or out of range."""
    if missing := [name for name in ("run", "input") if OmegaConf.is_missing(cfg, name) or cfg[name] in (None, "", [])]:
        raise ConfigError([f"{name} must be given: backlit-predict run=latest input=digits" for name in missing])
    check_command(cfg, PREDICT)


def _show(predictions: "Predictions", reader: "Reader", ending: Sequence[str]) -> None:
    """Print the first rows, the number of samples of each class, and some last lines."""
    rows, counts = predictions.rows[:MOST_ROWS], predictions.counts
    names = [name for name in rows[0] if any(row[name] is not False for row in rows)]
    table = text_table(
        [name.replace("_", " ") for name in names], [[_cell(row[name]) for name in names] for row in rows]
    )
    total, what = counts.total(), reader.noun
    lines = [f"and {total - len(rows):,} more"] if total > len(rows) else []
    lines.append("  ".join([f"{what} by class:", *(f"{name}: {n:,}" for name, n in sorted(counts.items()))]))
    if predictions.known:
        share = f"{predictions.right / predictions.known:.4f} ({predictions.right:,} of {predictions.known:,} right)"
        lines.append(f"accuracy  {share}")
    if reader.framed:
        lines.append(f"{reader.framed:,} of {total:,} images were photos: their digit was found and framed as in MNIST")
    if reader.inverted:
        lines.append(f"{reader.inverted:,} of {total:,} images were dark on light and were inverted")
    below = "\n".join(f"  {printable(line)}" for line in (*lines, *ending) if line)
    rich.get_console().print(f"{table}\n\n{below}", markup=False, emoji=False, highlight=False, soft_wrap=True)


def _cell(value: object) -> str:
    """Return a value as a cell of the table."""
    if isinstance(value, bool):
        return "yes" if value else ""
    return metric_text(value) if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
