"""``backlit-export``: writes what a run has learned as one file for other programs."""

import functools
import importlib.util
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from backlit.cli.app import run_command
from backlit.config.top_level import EXPORT, check_command
from backlit.errors import ConfigError
from backlit.logs import quiet_lightning
from backlit.runs.files import atomic_write, parents_made
from backlit.text import assignment, first_line, printable, shell_path, shell_word

log = logging.getLogger(__name__)

Format = Literal["state_dict", "torch_export", "onnx"]
# The first suffix is that of the default name.
SUFFIXES: dict[Format, tuple[str, ...]] = {"state_dict": (".pth", ".pt"), "torch_export": (".pt2",), "onnx": (".onnx",)}

# Writes the first path, names the second one, and returns what to report.
Write = Callable[[Path, Path], dict[str, str]]


class ExportError(RuntimeError):
    """The file could not be written, or does not compute what the network computes; there is no file."""


def main() -> None:
    """Run ``backlit-export``."""
    run_command(_task, "export")


def _task(cfg: DictConfig) -> None:
    """Export; report an error in one line and exit with code 1."""
    try:
        export(cfg)
    except ExportError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)


@quiet_lightning()
def export(cfg: DictConfig) -> Path:
    """Write a run's network as one file, read the file back, check it, and return its path.

    - ``state_dict``: the network's weights alone, as `torch.save` writes them, under the network's own names
      (``fc1.weight``, …) and in their dtype. No code of the run is needed. Normalisation and softmax or sigmoid are not
      included.
    - ``torch_export`` and ``onnx``: a whole program, from inputs as the data set stores them to probabilities, so that
      its users cannot forget normalisation. It has one input, ``inputs``, of shape ``(batch, *input_shape)`` with any
      batch size: integers where the data set stores them (uint8 pixels, 0 to 255), otherwise floats of the dtype in
      which it computes. It has one output, ``probabilities``: ``(batch, num_classes)``, or ``(batch,)`` for class 1 of
      two. It computes in float32, or in float64 if the run did; the weights of a run in
      half precision are the same numbers in float32.

    Args:
        cfg: What ``conf/export.yaml`` composes to.

    Raises:
        ConfigError: If there is no such run or format, if the run's model does not suit the format, if the output
            cannot be written, has the suffix of another format or a default name that exists, or if packages are
            missing.
        ExportError: If the file could not be written or read back, or does not compute the same. It is removed then;
            an earlier file of that name stays.
    """
    check_command(cfg, EXPORT)
    format = _choose_format(cfg)
    try:
        checkpoint, config, write = _prepare(cfg, format)
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    output = _output_path(cfg, config, format)
    try:
        with parents_made(output), atomic_write(output) as temporary:
            facts = write(temporary, output)
    except OSError as error:
        raise ConfigError([f"output must be a file that can be written, got {output}: {error.strerror}"]) from None
    except Exception as error:  # tracing a user's network, writing and reading it raise errors of many kinds
        raise ExportError(f"{output} was not written as {format}: {first_line(error)}") from error
    facts = {"file": f"{shell_path(output)}, {output.stat().st_size:,} bytes", "from": shell_path(checkpoint)} | facts
    log.info("\n".join(f"  {name:<9} {printable(fact)}" for name, fact in facts.items()))
    return output


def _choose_format(cfg: DictConfig) -> Format:
    """Return the format: that which is given, or that of the output's suffix.

    Raises:
        ConfigError: If the suffix is that of another format or of none, or if packages of the format are missing.
    """
    suffix = None if cfg.output is None else Path(str(cfg.output)).suffix
    if cfg.format is None and suffix is None:
        return "state_dict"
    named = [format for format, suffixes in SUFFIXES.items() if suffix is None or suffix in suffixes]
    if cfg.format is None and not named:
        rule = ", ".join(f"{' or '.join(suffixes)} ({format})" for format, suffixes in SUFFIXES.items())
        raise ConfigError([f"output must end in {rule}, got {cfg.output}"])
    format: Format = cfg.format or named[0]
    if format not in named:
        rule = f"output must end in {' or '.join(SUFFIXES[format])} for format={format}"
        raise ConfigError([f"{rule}, got {cfg.output}{f' (format={named[0]})' if named else ''}"])
    if format == "onnx":
        if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
            raise ConfigError(["format=onnx needs pip install 'backlit[onnx]'"])
        # At level INFO these log what they do to a graph.
        for name in ("onnxscript", "onnx_ir", "torch.onnx"):
            logging.getLogger(name).setLevel(logging.WARNING)
    return format


def _prepare(cfg: DictConfig, format: Format) -> tuple[Path, DictConfig, Write]:
    """Return the run's checkpoint, its config, and the function that writes the file.

    Raises:
        ValueError: If there is no such run, or if its model or data do not suit the format.
    """
    from backlit.inference.exported_file import write_program_file, write_weights_file
    from backlit.inference.stored_inputs import StoredInputs
    from backlit.load import check_named, load_named, read_config
    from backlit.models.protocol import missing_definition
    from backlit.runs.checkpoint import find_unusual, net_weights, read_checkpoint
    from backlit.runs.find import find_run

    check_named(cfg)
    if format == "state_dict":
        directory, checkpoint = find_run(str(cfg.run), cfg.checkpoint)
        config, weights = read_config(directory), net_weights(read_checkpoint(checkpoint)["state_dict"])
        if problem := find_unusual(weights):
            raise ValueError(f"{checkpoint} must have dense tensors as weights for format=state_dict, but {problem}")
        return checkpoint, config, functools.partial(write_weights_file, weights)
    run = load_named(cfg)
    assert run.checkpoint is not None
    if missing := missing_definition(run.model, run.datamodule):
        raise ValueError(f"for format={format} {missing} (format=state_dict takes any module)")
    write = functools.partial(write_program_file, run, StoredInputs.of_run(run), format)
    return run.checkpoint, run.config, write


def _output_path(cfg: DictConfig, config: DictConfig, format: Format) -> Path:
    """Return the path to write to.

    Raises:
        ConfigError: If it cannot be written, or if it is the default name and exists.
    """
    # The run may be a stranger's: its task_name must not lead out of the working directory.
    default = Path(printable(str(config.get("task_name", "model")))).name + SUFFIXES[format][0]
    output = Path(default if cfg.output is None else str(cfg.output))
    if cfg.output is None and output.exists():
        replaces = shell_word(assignment("output", str(output)))
        raise ConfigError([f"{output} exists already; give output=... ({replaces} replaces it)"])
    if output.is_dir():
        raise ConfigError([f"output must be a file, got {output}, which is a directory"])
    existing = next(path for path in (output.parent, *output.parent.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        problem = f"output must be in a directory that can be written, got {output}: {error.strerror}"
        raise ConfigError([problem]) from None
    return output


if __name__ == "__main__":
    main()
