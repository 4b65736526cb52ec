"""``backlit-predict``: tells what the network of a run says of images, or of points, that it has not seen."""

import contextlib
import csv
import functools
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.table import Table

from backlit.entry import command, quiet_lightning
from backlit.run import ConfigError, from_here, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from backlit.data.files import Reader, Rows
    from backlit.load import LoadedRun

# What a console gets, and what a picture gets; the file has all.
MOST_ROWS, MOST_IMAGES, MOST_POINTS = 20, 100, 10_000


def main() -> None:
    """Run ``backlit-predict``."""
    command(predict, "predict")


def predict(cfg: DictConfig) -> Counter[str]:
    """Tell the class of every sample of the input, and return how many are of each class.

    Args:
        cfg: What ``conf/predict.yaml`` composes to.

    Raises:
        ConfigError: If there is no such run, if the input does not fit it, or if the output cannot be written; nothing
            is written then.
        SystemExit: If files cannot be read; each is named on stderr. With code 1, once all others are done; with code 2
            and nothing written, if there are no others.
    """
    if missing := [name for name in ("run", "input") if OmegaConf.is_missing(cfg, name) or not cfg[name]]:
        raise ConfigError([f"{name} must be given: backlit-predict run=latest input=digits" for name in missing])
    if not isinstance(cfg.batch_size, int) or cfg.batch_size < 1:
        raise ConfigError([f"batch_size must be a whole number >= 1, got {cfg.batch_size}"])
    if cfg.invert not in ("auto", True, False):
        raise ConfigError([f"invert must be auto, true or false, got {cfg.invert}"])
    from backlit.data.files import Reader, find_files

    output = None if cfg.output in (None, "-") else Path(str(cfg.output))
    if output and (output.suffix not in (".csv", ".jsonl") or output.is_dir()):
        raise ConfigError([f"output must be a .csv or .jsonl file, or - for CSV on standard output, got {output}"])
    files = find_files([str(name) for name in (cfg.input if OmegaConf.is_list(cfg.input) else [cfg.input])])
    for target in (output, output.with_suffix(".png")) if output else ():
        if target.exists() and any(file != "-" and os.path.samefile(file, target) for file in files):
            raise ConfigError([f"output={output} must not replace a file of the input, but would write {target}"])
    if cfg.output == "-":
        rich.reconfigure(stderr=True)  # where the logs go then, too

    import torch

    run, labels = _load(cfg)
    model: Any = run.model
    data: Any = run.datamodule
    reader = Reader(tuple(data.input_shape), cfg.batch_size, invert=None if cfg.invert == "auto" else cfg.invert)
    most = MOST_IMAGES if reader.reads_images else MOST_POINTS

    def probabilities(inputs: "Tensor") -> "Tensor":
        """Return them, shape ``(b, num_classes)``, for stored inputs ``(b, ...)``."""
        with torch.inference_mode():
            logits = model(data.prepare_inputs(inputs, model.dtype).to(model.device))
            found: Tensor = model.probabilities(logits.to(torch.promote_types(logits.dtype, torch.float32))).cpu()
            return torch.stack([1 - found, found], 1) if found.ndim == 1 else found

    counts: Counter[str] = Counter()
    first: list[dict[str, Any]] = []
    kept: list[Tensor] = []
    try:
        with contextlib.ExitStack() as stack:
            file = sys.stdout
            if output:
                picture = stack.enter_context(whole_file(output.with_suffix(".png")))
                temporary = stack.enter_context(whole_file(output))
                file = stack.enter_context(temporary.open("w", newline="", encoding="utf-8"))
            for rows, inputs in reader.batches(files):
                judge(rows, probabilities(inputs), labels)
                if output and output.suffix == ".jsonl":
                    file.writelines(json.dumps(row) + "\n" for row in rows)
                elif cfg.output:
                    header = [] if counts else [rows[0]]
                    csv.writer(file, lineterminator="\n").writerows([*header, *(row.values() for row in rows)])
                if len(first) < most:
                    kept.append(inputs[: most - len(first)])
                    first += rows[: most - len(first)]
                counts.update(str(row["class"]) for row in rows)
            if not counts and reader.skipped:
                sys.exit(2)
            if not counts:
                raise ConfigError([f"input must have at least one sample, got none in {cfg.input}"])
            file.flush()
            if output:
                from backlit.callbacks.pictures import png, render

                inputs = torch.cat(kept)
                title = " of ".join(dict.fromkeys(f"{n:,}" for n in (len(first), counts.total())))
                drawn = draw_images if reader.reads_images else functools.partial(draw_points, probabilities, labels)
                picture.write_bytes(png(render(drawn(inputs, first, title))))
    except BrokenPipeError:
        # Who reads standard output has seen enough; Python would complain at exit that it cannot be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # what cannot be read has been told, and skipped
        raise ConfigError([f"output must be a file that can be written, got {cfg.output}: {error.strerror}"]) from None
    where = "all, with a picture: output=predictions.csv (or .jsonl); all on stdout: output=-"
    if cfg.output:
        where = f"written   {from_here(output)}, {from_here(output.with_suffix('.png'))}" if output else ""
    _show(first[:MOST_ROWS], counts, reader, [f"weights   {from_here(run.checkpoint)}", where])
    if reader.skipped:
        sys.exit(1)
    return counts


def _load(cfg: DictConfig) -> "tuple[LoadedRun, list[str]]":
    """Return the run, its network on the device, and what its classes are called, if they have names.

    Raises:
        ConfigError: If there is no such run or device, or if it is no run of a classifier of images or points.
    """
    import torch

    from backlit.load import load_named
    from backlit.models import Classifier

    quiet_lightning()
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
        reason = str(error).splitlines()[0]
        raise ConfigError([f"device must be cpu, auto or one that is here, got {cfg.device}: {reason}"]) from None
    return run, [str(name).split(" - ")[0] for name in getattr(data, "classes", [])]


def judge(rows: "Rows", probabilities: "Tensor", labels: Sequence[str]) -> None:
    """Add to each row its class, from probabilities of shape ``(b, num_classes)``."""
    named = [*labels] or [*range(probabilities.shape[1])]
    best = probabilities.topk(2)
    for row, values, (i, j) in zip(rows, best.values.tolist(), best.indices.tolist(), strict=True):
        high, low = (float(f"{value:.6g}") for value in values)
        if len(named) == 2:
            row |= {"class": named[i], f"probability_of_{named[1]}": high if i else low}
        else:
            row |= {"class": named[i], "probability": high, "runner_up": named[j], "runner_up_probability": low}


def _show(rows: "Rows", counts: Counter[str], reader: "Reader", ending: Sequence[str]) -> None:
    """Print rows, how many there are of each class, and what else there is to tell."""
    grid = Table(box=box.SIMPLE_HEAD)
    names = [name for name in rows[0] if any(row[name] is not False for row in rows)]
    for name in names:
        justify: Any = "right" if isinstance(rows[0][name], float) else "left"
        grid.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for row in rows:
        cells = [{True: "yes", False: ""}[cell] if isinstance(cell := row[name], bool) else cell for name in names]
        grid.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells))
    total, what = counts.total(), "images" if reader.reads_images else "points"
    lines = [f"and {total - len(rows):,} more"] if total > len(rows) else []
    lines.append("  ".join([f"{what} by class:", *(f"{name}: {n:,}" for name, n in sorted(counts.items()))]))
    if reader.inverted:
        lines.append(f"{reader.inverted:,} of {total:,} images were dark on light and were inverted")
    console = rich.get_console()
    # A file or a pipe has no width.
    console.print(grid, markup=False, highlight=False, width=None if console.is_terminal else 1000)
    told = "\n".join(f"  {line}" for line in (*lines, *ending) if line)
    rich.get_console().print(told, markup=False, highlight=False, soft_wrap=True)


def draw_images(images: "Tensor", rows: "Rows", title: str) -> "Figure":
    """Return images ``(n, 1, h, w)``, uint8, as the network sees them, with their classes and the probabilities."""
    from matplotlib.figure import Figure

    from backlit.callbacks.pictures import tile

    height, width = images.shape[-2:]
    columns, gap = min(10, max(4, math.ceil(math.sqrt(len(images))))), max(2, height // 3)  # where the labels go
    pixels = tile(images[:, 0].float(), columns, gap)
    wide = columns * 0.95
    tall = wide * pixels.shape[0] / pixels.shape[1]
    figure = Figure(figsize=(wide, tall + 0.35))
    axes = figure.add_axes((0.01, 0.01, 0.98, tall / (tall + 0.35)))
    axes.axis("off")
    axes.set_title(f"{title}: class (probability)", size=9)
    axes.imshow(pixels, cmap="gray_r", vmin=0, vmax=255)
    for place, row in enumerate(rows):
        line, column = divmod(place, columns)
        told = row["probability"] if "probability" in row else max(value := list(row.values())[-1], 1 - value)
        middle, bottom = gap + column * (width + gap) + width / 2, (line + 1) * gap + line * height - 1
        axes.text(middle, bottom, f"{row['class']} ({told:.2f})", ha="center", va="bottom", size=7)
    return figure


def draw_points(
    probabilities: "Callable[[Tensor], Tensor]", labels: Sequence[str], points: "Tensor", rows: "Rows", title: str
) -> "Figure":
    """Return points ``(n, 2)`` in the colours of their classes, over the network's probability."""
    import torch
    from matplotlib.figure import Figure

    from backlit.callbacks.pictures import BLUE, ORANGE

    low, high = points.amin(0), points.amax(0)
    margin = 0.05 * (high - low)
    (left, bottom), (right, top) = (low - margin).clamp(max=-1).tolist(), (high + margin).clamp(min=1).tolist()
    x, y = (torch.linspace(a, b, 200, dtype=torch.float64) for a, b in ((left, right), (bottom, top)))
    behind = probabilities(torch.cartesian_prod(x, y)).reshape(200, 200, -1).transpose(0, 1)
    is_binary = behind.shape[2] == 2
    field = (behind[:, :, 1] if is_binary else behind.amax(2)).numpy()
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    colours: Any = {"cmap": "RdBu_r" if is_binary else "Greys", "vmin": 0, "vmax": 1, "alpha": 0.45}
    shade = axes.imshow(field, origin="lower", extent=(left, right, bottom, top), aspect="auto", **colours)
    of = f"class {labels[1] if labels else 1}" if is_binary else "the likeliest class"
    figure.colorbar(shade, label=f"probability of {of}", shrink=0.85)
    if is_binary and field.min() < 0.5 < field.max():
        axes.contour(x.numpy(), y.numpy(), field, levels=[0.5], colors="black", linewidths=1.5)
    size, line = (22, 0.6) if len(points) <= 1000 else (5, 0.1)
    for index, name in enumerate(sorted({str(row["class"]) for row in rows})):
        chosen = points[[str(row["class"]) == name for row in rows]].numpy()
        colour = (ORANGE if name == str(labels[1] if labels else 1) else BLUE) if is_binary else f"C{index}"
        style: Any = {"s": size, "color": colour, "linewidths": line, "edgecolors": "white", "zorder": 3}
        axes.scatter(chosen[:, 0], chosen[:, 1], label=f"{name}: {len(chosen):,}", **style)
    axes.set(xlabel="x", ylabel="y", xlim=(left, right), ylim=(bottom, top), title=f"{title} points")
    figure.legend(title="class", loc="outside lower center", ncols=2, frameon=False)
    return figure


if __name__ == "__main__":
    main()
