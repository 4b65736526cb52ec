"""Checks of values from YAML against the annotations of the class that gets them."""

import difflib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from backlit.text import first_line


def check_signature(path: str, node: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each value of a node that does not fit the signature of its ``_target_``.

    Args:
        path: The node's place in the config.
        node: Plain data with a ``_target_``.
    """
    try:
        target = pkgutil.resolve_name(node["_target_"])
    except (ImportError, ValueError, AttributeError) as error:
        yield f"{path}._target_ must be something that can be imported, got {node['_target_']}: {first_line(error)}"
        return
    signature = inspect.signature(target)
    hints = typing.get_type_hints(getattr(target, "__init__") if isinstance(target, type) else inspect.unwrap(target))  # noqa: B009
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key, value in node.items():
        if key in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
            continue
        if key not in signature.parameters:
            if not takes_any:
                close = difflib.get_close_matches(str(key), signature.parameters, n=1)
                hint = f", did you mean {close[0]}?" if close else ""
                yield f"{path}.{key}: {target.__name__} has no such argument{hint}"
        elif key in hints and not matches(value, hints[key]):
            yield f"{path}.{key} must be {describe(hints[key])}, got {value!r}"


def matches(value: Any, hint: Any) -> bool:
    """Return whether a value from YAML may be given where a signature has the annotation `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar) or (isinstance(value, dict) and "_target_" in value):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, argument) for argument in arguments)
    if origin is Literal:
        return any(value == argument and type(value) is type(argument) for argument in arguments)
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if isinstance(hint, type) and issubclass(hint, int):  # an IntEnum, too
        return isinstance(value, int)
    if hint is float:
        return isinstance(value, int | float)
    if hint in (str, Path, timedelta):
        return isinstance(value, str)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return isinstance(value, dict)
    if isinstance(kind, type) and issubclass(kind, Iterable):
        elements = [a for a in arguments if a is not Ellipsis] or [Any]
        if kind is tuple and Ellipsis not in arguments:
            return (
                isinstance(value, list)
                and len(value) == len(elements)
                and all(matches(v, e) for v, e in zip(value, elements, strict=True))
            )
        return isinstance(value, list) and all(matches(v, elements[0]) for v in value)
    return False


def describe(hint: Any) -> str:
    """Return a type as a person says it: ``int or null``, ``one of adam, sgd``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        literals = [x for a in arguments if typing.get_origin(a) is Literal for x in typing.get_args(a)]
        others = [a for a in arguments if typing.get_origin(a) is not Literal]
        described = [f"one of {', '.join(dict.fromkeys(map(str, literals)))}"] if literals else []
        # What only Python can write (a Tensor, a Strategy object) is no help on a command line.
        described += [describe(a) for a in others if a in (int, float, str, bool, type(None)) or typing.get_origin(a)]
        return " or ".join(described)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if hint in (None, type(None)):
        return "null"
    if arguments and isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if arguments:
        return f"a list of {describe(arguments[0])}"
    return getattr(hint, "__name__", str(hint))
