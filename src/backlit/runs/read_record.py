"""``run.json`` and ``metrics.json`` as they are read: whole and of the right types, or not at all."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from backlit.runs.bounded import read_json

STATUSES = ("running", "completed", "interrupted", "failed", "pruned")
# The system's largest process id on Linux, and about the largest step that a float64 counts exactly.
_LARGEST_PID, _LARGEST_COUNT = 2**22, 2**53

_LARGEST_SAMPLE = 10_000_000
_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "bool", "float16", "bfloat16", "float32", "float64")

Fits = Callable[[Any], bool]


def read_record(path: Path) -> dict[str, Any]:
    """Return the content of a ``run.json``; each entry that backlit reads has the type that it writes.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not what a run writes.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise ValueError(f"{path} must be a run's record, got a {type(record).__name__}")
    if "status" not in record:
        raise ValueError(f"{path} must be a run's record, got one without a status")
    if problem := _find_problem(record, _ENTRIES):
        raise ValueError(f"{path} must be a run's record: {problem}")
    return record


def read_metrics(path: Path) -> dict[str, float]:
    """Return the metrics in a ``metrics.json``, where ``null`` stands for nan; none if there is no such file.

    Raises:
        ValueError: If it is not what a run writes.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    metrics = content.get("metrics") if isinstance(content, dict) else None
    if not isinstance(metrics, dict):
        raise ValueError(f"{path} must be a run's metrics, got something else")
    for name, value in metrics.items():
        if not (value is None or _is_number(value)):
            raise ValueError(f"{path} must be a run's metrics: {_show(name)} must be a number, got {_show(value)}")
    return {name: math.nan if value is None else float(value) for name, value in metrics.items()}


def _find_problem(record: Mapping[str, Any], entries: Mapping[str, tuple[str, Fits]]) -> str | None:
    """Return what is wrong with the first entry that is not of its type."""
    for name, (rule, fits) in entries.items():
        if name in record and not fits(record[name]):
            return f"{name} must be {rule}, got {_show(record[name])}"
    return None


def _show(value: object) -> str:
    """Return a value as a short text without line breaks and control characters."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_number(value: object) -> bool:
    """Return whether a value is a number that float64 has, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def is_server_id(value: object) -> bool:
    """Return whether a value is what the server of a logger calls a run."""
    return isinstance(value, str) and re.fullmatch(r"[\w-]{1,128}", value, re.ASCII) is not None


def _is_ids(value: object) -> bool:
    """Return whether a value is what the servers of loggers call a run, by the loggers' names."""
    return isinstance(value, dict) and all(map(is_server_id, value.values()))


def _is_attempts(value: object) -> bool:
    """Return whether a value is a list of what a record keeps of earlier attempts."""
    return isinstance(value, list) and all(
        isinstance(attempt, dict) and _find_problem({**attempt, "attempts": []}, _ENTRIES) is None for attempt in value
    )


def _is_extension(value: object) -> bool:
    """Return whether a value is the record of an attempt that trains a completed run longer."""
    return isinstance(value, dict) and "status" in value and _find_problem(value, _ENTRIES) is None


def _is_inputs(value: object) -> bool:
    """Return whether a value is the shape and the dtype of a sample, of a size that can be held in memory."""
    if not isinstance(value, dict):
        return False
    shape, dtype = value.get("shape"), value.get("dtype")
    if not (isinstance(shape, list) and len(shape) <= 8 and all(_is_count(size) and size for size in shape)):
        return False
    return math.prod(shape) <= _LARGEST_SAMPLE and isinstance(dtype, str) and dtype in _DTYPES


def _or_null(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


_DURATION: tuple[str, Fits] = ("seconds >= 0, or null", _or_null(lambda value: _is_number(value) and value >= 0))
_COUNT: tuple[str, Fits] = ("a whole number >= 0, or null", _or_null(_is_count))
_TIME: tuple[str, Fits] = ("a time with its zone, or null", _or_null(_is_time))
_TEXT: tuple[str, Fits] = ("text, or null", _or_null(lambda value: isinstance(value, str)))
_MAPPING: tuple[str, Fits] = ("a mapping, or null", _or_null(lambda value: isinstance(value, dict)))
# Other entries are facts that nobody reads but people.
_ENTRIES: dict[str, tuple[str, Fits]] = {
    "status": (f"one of {', '.join(STATUSES)}", lambda value: isinstance(value, str) and value in STATUSES),
    "optimized_metric": ("text", _is_word),
    "optimized_mode": ("min or max", lambda value: isinstance(value, str) and value in ("min", "max")),
    "command": _TEXT,
    "arguments": ("a list of texts, or null", _or_null(_is_texts)),
    "overrides": ("a list of texts, or null", _or_null(_is_texts)),
    "host": ("text", _is_word),
    "pid": (
        f"a process id from 1 to {_LARGEST_PID}, or null",
        _or_null(lambda value: _is_count(value) and 1 <= value <= _LARGEST_PID),
    ),
    "started": _TIME,
    "ended": _TIME,
    "duration_s": _DURATION,
    "error": _TEXT,
    "first_step": _COUNT,
    "planned_steps": ("a number, or null", _or_null(_is_number)),
    "planned_epochs": ("a number, or null", _or_null(_is_number)),
    "inputs": ("the shape and the dtype of a sample, or null", _or_null(_is_inputs)),
    "stopped": _MAPPING,
    "versions": _MAPPING,
    "git": _MAPPING,
    "project": _MAPPING,
    "loggers": ("a mapping of names to ids", _is_ids),
    "attempts": ("a list of earlier attempts", _is_attempts),
    "extension": ("the record of an attempt", _is_extension),
}
