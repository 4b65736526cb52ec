"""Arguments against annotations: a signature declares types and ranges, pydantic checks them.

Whatever takes a value declares its range beside its type (``batch_size: PositiveInt``). The check of a config reads the
same annotations as the constructors, so that a range is written once.
"""

import functools
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import annotated_types
from annotated_types import Ge, Gt, Le, Lt, MinLen

PositiveInt = Annotated[int, Ge(1)]
Count = Annotated[int, Ge(0)]
SampleCount = Annotated[int, Ge(1), Le(10_000_000)]  # with more, drawing them takes gigabytes
Seed = Annotated[int, Ge(0), Lt(2**32)]  # what NumPy's legacy generator takes
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
FractionBelow1 = Annotated[float, Ge(0), Lt(1)]
PartOf1 = Annotated[float, Gt(0), Le(1)]
Moderate = Annotated[float, Ge(-1e6), Le(1e6)]  # float32 can still compute with it
Text = Annotated[str, MinLen(1)]

# Where pydantic finds the right type, but not the right value.
_RANGE_ERRORS = {
    "finite_number",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "string_too_short",
}
_SIGNS: dict[type, tuple[str, str]] = {Gt: (">", "gt"), Ge: (">=", "ge"), Lt: ("<", "lt"), Le: ("<=", "le")}


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Reject arguments that do not fit the annotations of the function that gets them.

    Args:
        function: The function, or a class's ``__init__``.
        given: Arguments by name; the function passes its ``locals()``, before it has others.

    Raises:
        ValueError: With a line for each that does not fit.
    """
    hints = annotations_of(function)
    problems = (find_problem(name, given[name], hint) for name, hint in hints.items() if name in given)
    if found := [problem for problem in problems if problem]:
        raise ValueError("\n".join(found))


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's arguments; those that only a type checker can resolve are left out."""
    function = inspect.unwrap(function)
    module = vars(sys.modules.get(getattr(function, "__module__", None) or "", typing))
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone: Any = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(alone, module, include_extras=True)
        except Exception:  # it names what is imported for type checkers alone, or is no type
            continue
    hints.pop("return", None)
    return hints


def find_problem(name: str, value: Any, hint: Any, *, is_plain: bool = False, is_finite: bool = True) -> str | None:
    """Return a line about a value that does not fit an annotation; None if it fits, or if the annotation is no type.

    Nothing is converted: ``"5"`` and ``True`` are no numbers. An integer is also a float.

    Args:
        name: What the line calls the value.
        value: The value.
        hint: The annotation, a type that may have a range.
        is_plain: Whether the value comes from YAML, where a tuple is a list and a path a string.
        is_finite: Reject nan and infinity.
    """
    import pydantic  # 30 ms that a mere --help need not wait

    options = [option for option in _options(hint) if option is not None]
    if value is None and len(options) < len(_options(hint)):
        return None
    core = options[0] if len(options) == 1 else hint
    try:
        adapter = _adapter(core, is_finite)
    except Exception:  # pydantic and typing raise many kinds for what is no type
        return None
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        value = value.item()  # a number of NumPy's
    try:
        if is_plain:
            adapter.validate_json(json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace"))
        else:
            adapter.validate_python(value)
    except pydantic.ValidationError as error:
        return _describe_problem(name, value, hint, error.errors(include_url=False), is_finite=is_finite)
    return None


@functools.lru_cache(maxsize=1024)
def _adapter(hint: Any, is_finite: bool) -> Any:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    config = ConfigDict(strict=True, allow_inf_nan=not is_finite, arbitrary_types_allowed=True)
    try:
        return TypeAdapter(hint, config=config)
    except PydanticUserError:
        # A class that has a config of its own does not take another one.
        return TypeAdapter(hint)


def _describe_problem(name: str, value: Any, hint: Any, errors: list[Any], *, is_finite: bool) -> str:
    """Return the line for what pydantic has found, about the element of a list or mapping if that is what is wrong."""
    for index in errors[0]["loc"]:
        options = [option for option in _options(hint) if option is not None]
        elements = typing.get_args(_without_range(options[0])[0]) if len(options) == 1 else ()
        if elements and isinstance(value, dict) and index in value:
            name, value, hint = f"{name}.{index}", value[index], elements[-1]
        elif elements and isinstance(value, list | tuple) and isinstance(index, int) and index < len(value):
            hint = elements[index if len(elements) > index and elements[-1] is not Ellipsis else 0]
            name, value = f"{name}[{index}]", value[index]
        else:
            break
    is_range = any(error["type"] in _RANGE_ERRORS for error in errors)
    return f"{name} must be {describe(hint, is_range=is_range, is_finite=is_finite)}, got {value!r}"


def describe(hint: Any, *, is_range: bool = False, is_finite: bool = True) -> str:
    """Return a type as a person says it: ``int or null``, ``one of adam, sgd``.

    Args:
        hint: The type.
        is_range: Name the range alone, ``>= 1``, for a value whose type is right.
        is_finite: Whether a float must be finite.
    """
    options = _options(hint)
    literals = [value for option in options for value in typing.get_args(option) if _is_literal(option)]
    described = [f"one of {', '.join(dict.fromkeys(map(str, literals)))}"] if literals else []
    ranges = [option for option in options if _range_of(option, is_finite)]
    for option in options:
        base, _ = _without_range(option)
        # What only Python can write (a Tensor, a Strategy object) is no help on a command line.
        is_readable = base in (int, float, str, bool, None) or typing.get_origin(base) or len(options) == 1
        limits = _range_of(option, is_finite)
        if _is_literal(option) or not is_readable or (is_range and not limits and base is not None):
            continue
        if is_range and limits:
            described.append(limits if len(ranges) == 1 else f"{_type_name(base)} {limits}")
        else:
            described.append(_type_name(option))
    return " or ".join(described)


def _type_name(hint: Any) -> str:
    base, limits = _without_range(hint)
    if base is None:
        return "null"
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if base is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "a mapping"
    if arguments and isinstance(origin, type):
        sizes = [limit.min_length for limit in limits if isinstance(limit, annotated_types.Len)]
        count = f"{sizes[0]} " if sizes else ""
        element = describe(arguments[0])
        return f"a list of {count}{element}" if element else "a list"
    return getattr(base, "__name__", str(base))


def _range_of(hint: Any, is_finite: bool) -> str:
    """Return the range of a number or text in words: ``>= 0 and < 1``; empty if there is none."""
    base, limits = _without_range(hint)
    words, sides = [], set()
    for limit in limits:
        if type(limit) in _SIGNS:
            sign, attribute = _SIGNS[type(limit)]
            words.append(f"{sign} {getattr(limit, attribute):.10g}")
            sides.add(sign[0])
    if base is float and is_finite and len(sides) < 2:
        words.append("finite")
    if any(isinstance(limit, MinLen) for limit in limits) and base is str:
        words.append("not empty")
    return " and ".join(words)


def _options(hint: Any) -> list[Any]:
    """Return what a union allows, each once, with None for null; an annotation that is no union allows itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(dict.fromkeys(option for part in typing.get_args(hint) for option in _options(part)))
    return [None if hint is type(None) else hint]


def _without_range(hint: Any) -> tuple[Any, list[Any]]:
    """Return a type without its range, and the range's limits."""
    if typing.get_origin(hint) is not Annotated:
        return hint, []
    return hint.__origin__, list(hint.__metadata__)


def takes_objects(hint: Any) -> bool:
    """Return whether an annotation allows something that YAML itself cannot write, and a ``_target_`` can build."""
    for option in _options(hint):
        base, _ = _without_range(option)
        if _is_literal(base) or base in (None, bool, int, float, str):
            continue
        elements = typing.get_args(base) if typing.get_origin(base) is not Callable else ()
        if not elements or any(takes_objects(element) for element in elements if element is not Ellipsis):
            return True
    return False


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal
