"""Text for people: numbers, paths and tables as a console or a command line takes them."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box, get_console
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Control characters, the ends of lines, what has no width or changes the direction of a text, halves of a character.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

_NUMBER = re.compile(r"[-+]?(\d|inf\b|nan\b)")


def printable(text: str, *, keep: str = "") -> str:
    """Return a text from a file as a terminal may get it: in one line, and without anything that the terminal obeys.

    Args:
        text: Any text.
        keep: Characters that stay as they are, such as the ends of lines of what is laid out in lines.
    """

    def escape(match: re.Match[str]) -> str:
        return match[0] if match[0] in keep else match[0].encode("unicode_escape").decode()

    return _UNPRINTABLE.sub(escape, text)


def shorten_numbers(text: str) -> str:
    """Return a text with its long decimal fractions cut to four digits."""
    return re.sub(r"\d+\.\d{5,}(e[+-]?\d+)?", lambda match: f"{float(match[0]):.4g}", text)


def quote_value(value: str) -> str:
    """Return a string as a value that Hydra's override grammar, and OmegaConf after it, read as it is."""
    plain = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # no interpolation
    # The grammar takes a backslash as it is, unless a quote follows.
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + match[2].replace("'", "\\'"), plain)
    return f"'{escaped}'"


def assignment(key: str, value: str) -> str:
    """Return ``key=value`` as Hydra reads it: the value is this string, in quotes where it could be anything else."""
    is_plain = re.fullmatch(r"[A-Za-z_./][\w./+-]*", value, re.ASCII) and ("/" in value or value[0].isalpha())
    is_word = value.lower() not in ("null", "true", "false", "inf", "nan")
    return f"{key}={value}" if is_plain and is_word else f"{key}={quote_value(value)}"


def shell_word(word: str) -> str:
    """Return a word as it is typed in a shell; in double quotes if it has single ones and nothing that they expand."""
    if "'" in word and not re.search(r'["$`!\\]', word):
        return f'"{word}"'
    return shlex.quote(word)


def shell_command(*words: str) -> str:
    """Return a command as it is typed in a shell."""
    return " ".join(map(shell_word, words))


def shell_path(path: Path) -> str:
    """Return a path as it may be typed in the working directory."""
    return shell_word(_typed(path))


def path_override(key: str, path: Path) -> str:
    """Return ``key=path`` as Hydra reads it in the working directory; `shell_word` makes it a word of a shell."""
    return assignment(key, _typed(path))


def _typed(path: Path) -> str:
    path = path.resolve()
    typed = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    # Alone these are a flag, a home directory, and the newest run.
    return f"./{typed}" if typed[0] in "-~" or typed == "latest" else typed


def metric_text(value: float) -> str:
    """Return a metric with four decimals, or if it is less than 0.001, three digits; nothing else rounds a metric."""
    return f"{value:.2e}" if 0 < abs(value) < 0.001 else f"{value:.4f}"


def metrics_table(metrics: dict[str, float]) -> str:
    """Return metrics as a table for a console or a log: a row a metric, a column a stage."""
    stages = [stage for stage in ("train", "val", "test") if any(name.startswith(f"{stage}/") for name in metrics)]
    staged = [name for name in metrics if name.split("/")[0] in stages and not name.endswith("_epoch")]
    rows = []
    for row in dict.fromkeys(name.split("/", 1)[1] for name in staged):
        values = [metrics.get(f"{stage}/{row}") for stage in stages]
        rows.append([row, *("" if value is None else metric_text(value) for value in values)])
    # What somebody else's module logs under other names has a line of its own.
    rows += [[f"{name} {metric_text(metrics[name])}"] for name in metrics if name.split("/")[0] not in stages]
    return text_table(["", *stages], rows)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text for a console or a log, folded to the width of a terminal.

    Columns of numbers are aligned to the right, the first column and texts to the left.
    """
    grid, width = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)), terminal_width() - 1
    cells = [[printable(cell) for cell in row] for row in rows]
    by_column = [[row[index] for row in cells if index < len(row) and row[index]] for index in range(len(columns))]
    are_numbers = [
        index > 0 and bool(column) and all(map(_NUMBER.match, column)) for index, column in enumerate(by_column)
    ]
    # Numbers are not broken, unless the line is too short for them alone.
    widest = [
        max([len(word) for cell in column for word in cell.split()] if is_number else [8])
        for column, is_number in zip(by_column, are_numbers, strict=True)
    ]
    fits = sum(widest) + 2 * len(columns) < width
    for name, is_number, least in zip(columns, are_numbers, widest, strict=True):
        align: Any = "right" if is_number else "left"
        grid.add_column(
            Text(printable(name)), justify=align, min_width=least if fits and is_number else None, overflow="fold"
        )
    for row in cells:
        grid.add_row(*map(Text, row))  # a cell may look like markup, or like an emoji
    text = StringIO()
    Console(file=text, width=width, color_system=None, force_jupyter=False).print(grid)
    return "\n".join(f" {line}".rstrip() for line in text.getvalue().splitlines() if line.strip())


def terminal_width() -> int:
    """Return the number of characters in a line: the terminal's, or ``COLUMNS``; 1000 for a file or a pipe without."""
    console = get_console()
    return console.width if console.is_terminal or os.environ.get("COLUMNS") else 1000


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
