"""Checks of the nodes of a config against the signature of what each of them builds."""

import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

from backlit.arguments import annotations_of, find_problem, takes_objects
from backlit.config.hints import nearest
from backlit.config.known_arguments import FOLLOWED, GIVEN, KINDS, added_arguments, known_ranges
from backlit.text import first_line

_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def check_signature(path: str, node: dict[str, Any], owners: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield a line for each value of a node that does not fit the signature of its ``_target_``.

    Args:
        path: The node's place in the config.
        node: Plain data with a ``_target_``.
        owners: The options that set keys of other groups, by key: `key_owners`.
    """
    name = node["_target_"]
    try:
        target = pkgutil.resolve_name(name)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        yield f"{path}._target_ must be something that can be imported, got {name!r}: {first_line(error)}"
        return
    group, *parts = path.split(".")
    kind = KINDS.get(group) if len(parts) == (group in ("callbacks", "logger")) else None
    if not callable(target):
        yield f"{path}._target_ must be a class or a function, got {name!r}"
        return
    if kind is not None and isinstance(target, type) and not issubclass(target, kind):
        yield f"{path}._target_ must be a {kind.__name__}, got {name}"
        return
    try:
        parameters = inspect.signature(target).parameters
    except (ValueError, TypeError):
        return  # written in C: it checks its arguments itself
    hints = annotations_of(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    added = added_arguments(target)
    names = [*parameters, *added]
    ranges = known_ranges(target) | added
    taking_objects = {key for key, hint in hints.items() if takes_objects(hint)}
    hints |= {key: hint for key, hint in ranges.items() if key in names}
    is_own = target.__module__.split(".")[0] == "backlit"
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in node.items():
        if key in _HYDRA_KEYS:
            continue
        if (instead := GIVEN.get(path, {}).get(str(key))) is not None:
            yield f"{path}.{key} is set by backlit itself and must not be given: {instead}"
        elif key not in names:
            if takes_any:
                continue
            if owner := (owners or {}).get(f"{path}.{key}"):
                yield f"{owner} sets {path}.{key}, which {target.__name__} does not take; drop it with ~{path}.{key}"
            else:
                close = nearest(str(key), names)
                hint = f", did you mean {close}?" if close else ""
                yield f"{path}.{key}: {target.__name__} has no such argument{hint}"
        elif path == "model" and key in FOLLOWED and value is None:
            continue  # it follows the data, whether the annotation has None or not
        elif key in hints and not (key in taking_objects and _has_node(value)):
            is_finite = is_own or key in ranges
            if problem := find_problem(f"{path}.{key}", value, hints[key], is_plain=True, is_finite=is_finite):
                yield problem


def _has_node(value: Any) -> bool:
    """Return whether a value is, or holds, something that is built first."""
    if isinstance(value, dict):
        return "_target_" in value or any(map(_has_node, value.values()))
    return isinstance(value, list) and any(map(_has_node, value))
