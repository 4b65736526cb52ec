"""Which texts of a recorded command or config name a place outside of the run directory that has recorded them.

A run directory may come from a stranger: what it says may name nothing outside of it, whatever the key, unless the user
types it again.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, QuotedString, Sweep
from hydra.errors import HydraException

from backlit.text import assignment

# An absolute path, a home directory, a step upwards, a URL, or what no path needs.
_PLACE = re.compile(r"[/~]|(.*/)?\.\.(/|$)|[^/]*:/|.*(::|[\\$\x00-\x1f])", re.DOTALL)
# What a file name may have in braces, as in `{epoch:02d}-{val/loss:.2f}`. Other formats write any character: at step 47
# `{step:c}` is a slash; a width of many digits fills the memory.
_FORMAT = re.compile(r"\{(\w[\w/@-]*)(:0?\d{0,2}(\.\d{1,2})?[defg]?)?\}")
# A key whose value is a path, of whatever form: `notes.txt` is one in the working directory.
_WORDS = {"directory", "file", "folder", "root", "uri", "url", "location", "storage", "database", "args"}
# Tags are shown, and never opened; the task's name is checked on its own; what is downloaded to the default directory
# is everybody's.
_HARMLESS = {("tags", None), ("task_name", None), ("data.data_dir", "data")}


def outside_places(value: Any, key: str, directory: Path | None) -> Iterator[tuple[str, str]]:
    """Yield the key and the text of everything in a value that names a place outside of a directory.

    Args:
        value: Plain data, or what Hydra parses of an override's value.
        key: Its dotted key.
        directory: What lies in it may be named; None where nothing may.
    """
    for place, text in iter_texts(value, key):
        is_harmless = bool({(place, None), (place, text)} & _HARMLESS)
        if not is_harmless and _is_place(place, text) and not _is_inside(text, directory):
            yield place, text


def outside_override(override: str, directory: Path | None) -> bool:
    """Return whether an override of a recorded command names a place outside of a directory."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # a number of too many digits
        return False  # Hydra will report it
    return any(outside_places(parsed.value(), parsed.key_or_group, directory))


def place_to_type(text: str, run_dir: Path) -> str:
    """Return a recorded path as it is typed here.

    One that is not in the working directory may be in that in which the run was started: above the run's directory.
    """
    try:
        if Path(text).is_absolute() or Path(text).exists():
            return text
        return next((str(path / text) for path in run_dir.resolve().parents if (path / text).exists()), text)
    except (OSError, ValueError):
        return text


def override_to_type(override: str, run_dir: Path) -> str:
    """Return a recorded override whose value is a path as `place_to_type` returns it; others as they are."""
    value = OverridesParser.create().parse_override(override).value()
    recorded = value.text if isinstance(value, QuotedString) else value
    if not isinstance(recorded, str) or (typed := place_to_type(recorded, run_dir)) == recorded:
        return override
    return assignment(override.partition("=")[0], typed)


def iter_texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield every text in a value, with the key that leads to it; elements of a list have the list's key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, QuotedString):
        yield key, value.text
    elif isinstance(value, Mapping):
        for name, child in value.items():
            yield from iter_texts(child, f"{key}.{name.text if isinstance(name, QuotedString) else name}")
    elif isinstance(value, list | tuple | set):
        for child in value:
            yield from iter_texts(child, key)
    elif isinstance(value, Sweep | Glob):
        for child in vars(value).values():
            yield from iter_texts(child, key)


def _is_place(key: str, text: str) -> bool:
    words = key.lower().split(".")[-1].split("_")  # `_args_` has the word `args`
    names_path = any(word.endswith(("dir", "path", "dirs", "paths")) or word in _WORDS for word in words)
    text = _FORMAT.sub(r"\1", text)  # Lightning puts the name itself into the text, too
    return names_path or "{" in text or _PLACE.match(text) is not None  # an empty path is the working directory


def _is_inside(text: str, directory: Path | None) -> bool:
    is_url = re.match(r"[^/]*:/|.*::", text, re.DOTALL) is not None
    # What is joined to a part of the path, or expanded, lies elsewhere, wherever the text itself does.
    is_moved = text.startswith("~") or re.search(r"(^|[/\\])\.\.($|[/\\])|[\\$\x00-\x1f]", text) is not None
    if directory is None or is_moved or is_url or "{" in _FORMAT.sub("", text):
        return False
    try:
        return Path(text).resolve().is_relative_to(directory.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, or a loop of links
        return False
