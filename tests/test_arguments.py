"""Values against annotations, annotations in words, and functions that check their own arguments."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy
import pytest
import torch
from annotated_types import Len
from hypothesis import given
from hypothesis import strategies as st

from backlit.arguments import (
    Fraction,
    FractionBelow1,
    Positive,
    PositiveInt,
    Text,
    annotations_of,
    check_arguments,
    describe,
    find_problem,
    takes_objects,
)

if TYPE_CHECKING:
    from decimal import Decimal


def fits(value: Any, hint: Any) -> bool:
    return find_problem("x", value, hint, is_plain=True) is None


@given(
    st.one_of(
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.text(st.characters(codec="utf-8")),
        st.none(),
        st.lists(st.integers()),
    )
)
def test_a_type_takes_what_isinstance_says_with_yaml_in_mind(value: Any) -> None:
    is_bool = isinstance(value, bool)
    assert fits(value, int) == (isinstance(value, int) and not is_bool)
    assert fits(value, float) == (isinstance(value, int | float) and not is_bool)
    assert fits(value, bool) == is_bool
    assert fits(value, str) == isinstance(value, str)
    assert fits(value, int | None) == (value is None or fits(value, int))
    assert fits(value, list[int]) == isinstance(value, list)
    assert fits(value, Sequence[float]) == isinstance(value, list)
    assert fits(value, Literal["a", "b"]) == (value in ("a", "b"))
    assert fits(value, PositiveInt) == (fits(value, int) and value >= 1)
    assert fits(value, Fraction) == (fits(value, float) and 0 <= value <= 1)


def test_yaml_has_no_tuples_and_no_paths() -> None:
    assert fits([1, 2], tuple[int, int])
    assert fits("a/b", Path)
    assert not fits([1], tuple[int, int])
    assert find_problem("x", Path("a"), Path) is None
    assert find_problem("x", (1, 2), Sequence[int]) is None
    assert find_problem("x", numpy.float32(0.5), Positive) is None


@pytest.mark.parametrize(
    ("hint", "value", "line"),
    [
        (PositiveInt, 0, "x must be >= 1, got 0"),
        (PositiveInt | None, 0, "x must be >= 1 or null, got 0"),
        (PositiveInt, 1.5, "x must be int, got 1.5"),
        (Positive, -0.1, "x must be > 0 and finite, got -0.1"),
        (Positive, float("nan"), "x must be > 0 and finite, got nan"),
        (float, float("inf"), "x must be finite, got inf"),
        (Positive, "5", "x must be float, got '5'"),
        (FractionBelow1, 1, "x must be >= 0 and < 1, got 1"),
        (Sequence[PositiveInt], [4, 0], "x[1] must be >= 1, got 0"),
        (Sequence[PositiveInt], [0.1], "x[0] must be int, got 0.1"),
        (Annotated[list[float], Len(2, 2)], [0.1], "x must be a list of 2 float, got [0.1]"),
        (PositiveInt | Fraction | str, 1.5, "x must be int >= 1 or float >= 0 and <= 1, got 1.5"),
        (Text, "", "x must be not empty, got ''"),
        (bool | Literal["auto"], "maybe", "x must be one of auto or bool, got 'maybe'"),
    ],
)
def test_a_line_has_the_rule_that_is_broken(hint: Any, value: Any, line: str) -> None:
    assert find_problem("x", value, hint, is_plain=True) == line
    assert find_problem("x", value, hint) == line


def test_infinity_is_a_float_where_a_class_of_others_does_not_say_otherwise() -> None:
    assert find_problem("x", float("inf"), float, is_plain=True, is_finite=False) is None


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "int or null"),
        (list[int] | str | int, "a list of int or str or int"),
        (Literal["a", "b"] | None, "one of a, b or null"),
        (dict[str, Any], "a mapping"),
        (float | torch.Tensor, "float"),
    ],
)
def test_types_are_described_in_words(hint: Any, words: str) -> None:
    assert describe(hint) == words


def unresolvable(size: PositiveInt, price: "Decimal", other: "Nothing | int", no_type: 3) -> None:  # type: ignore[name-defined,valid-type] # noqa: F821
    """Take what only a type checker knows."""


def test_annotations_that_cannot_be_resolved_are_left_out() -> None:
    hints = annotations_of(unresolvable)
    assert "size" in hints
    assert not {"price", "other"} & hints.keys()
    assert find_problem("no_type", 5, 3) is None


def test_what_is_no_type_for_pydantic_is_not_checked() -> None:
    class Odd:
        def __class_getitem__(cls, item: object) -> object:
            return object()

    assert find_problem("x", 5, Odd[int]) is None  # type: ignore[misc]
    assert find_problem("x", len, Callable[..., int]) is None


@pytest.mark.parametrize(
    ("hint", "takes"),
    [
        (int | None, False),
        (Sequence[PositiveInt], False),
        (Text | Literal["a"], False),
        (float | torch.Tensor, True),
        (list[torch.Tensor] | None, True),
        (Callable[..., int], True),
        (dict[str, Any], True),
    ],
)
def test_a_part_that_is_built_is_taken_where_an_object_may_be(hint: Any, takes: bool) -> None:
    assert takes_objects(hint) == takes


def test_a_function_checks_its_own_arguments() -> None:
    def train(epochs: PositiveInt, *, dropout: FractionBelow1 = 0.0) -> None:
        check_arguments(train, locals())

    train(1, dropout=0.5)
    with pytest.raises(ValueError, match="epochs must be >= 1, got 0\ndropout must be >= 0 and < 1, got 2"):
        train(0, dropout=2)
