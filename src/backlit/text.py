"""Text for people: numbers, paths and tables as a console or a command line takes them."""

import re
import shlex
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def printable(text: str) -> str:
    """Return a text with an escape sequence in place of each character that a terminal, or UTF-8, does not print."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shorten_numbers(text: str) -> str:
    """Return a text with its long decimal fractions cut to four digits."""
    return re.sub(r"\d+\.\d{5,}(e[+-]?\d+)?", lambda match: f"{float(match[0]):.4g}", text)


def quote_value(value: str) -> str:
    """Return a string as a value that Hydra's override grammar reads as it is."""
    # The grammar takes a backslash as it is, unless a quote follows.
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + match[2].replace("'", "\\'"), value)
    return f"'{escaped}'"


def shell_path(path: Path) -> str:
    """Return a path as it may be typed in the working directory."""
    path = path.resolve()
    return shlex.quote(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path))


def metrics_table(metrics: dict[str, float]) -> str:
    """Return metrics as a table for a console or a log: a row a metric, a column a stage."""
    stages = [stage for stage in ("train", "val", "test") if any(name.startswith(f"{stage}/") for name in metrics)]
    staged = [name for name in metrics if name.split("/")[0] in stages and not name.endswith("_epoch")]
    rows = []
    for row in dict.fromkeys(name.split("/", 1)[1] for name in staged):
        values = [metrics.get(f"{stage}/{row}") for stage in stages]
        rows.append([row, *("" if value is None else f"{value:.4f}" for value in values)])
    # What somebody else's module logs under other names has a line of its own.
    rows += [[f"{name} {metrics[name]:.4f}"] for name in metrics if name.split("/")[0] not in stages]
    return text_table(["", *stages], rows)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text for a console or a log; all columns but the first are aligned to the right."""
    grid = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        grid.add_column(name, justify="right" if index else "left")
    for row in rows:
        grid.add_row(*row)
    text = StringIO()
    Console(file=text, width=100, markup=False, emoji=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def path_argument(path: Path) -> str:
    """Return a path as a value of a Hydra override that may be typed in the working directory."""
    typed = shlex.split(shell_path(path))[0]
    is_plain = all(character.isalnum() or character in "/-+._" for character in typed)
    return typed if is_plain else shlex.quote(quote_value(typed))


def flatten(nested: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings under the names that lead to them, joined by a separator."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, separator, f"{prefix}{name}{separator}")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error's message, without the place in gloo's source that it comes from."""
    lines = re.sub(r"^\[[^]]*\] ", "", str(error).strip()).splitlines()
    unindented = [line for line in lines if line and not line[0].isspace()]
    return unindented[0].partition(". This ")[0] if unindented else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; of a file's error, the file and the reason."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
