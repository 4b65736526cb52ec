"""Values from YAML against annotations, and annotations in words."""

from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backlit.config.signature import describe, matches


@given(
    st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(), st.none(), st.lists(st.integers()))
)
def test_matches_is_isinstance_with_yaml_in_mind(value: Any) -> None:
    is_bool = isinstance(value, bool)
    assert matches(value, int) == (isinstance(value, int) and not is_bool)
    assert matches(value, float) == (isinstance(value, int | float) and not is_bool)
    assert matches(value, bool) == is_bool
    assert matches(value, str) == isinstance(value, str)
    assert matches(value, int | None) == (value is None or matches(value, int))
    assert matches(value, list[int]) == isinstance(value, list)
    assert matches(value, Literal["a", "b"]) == (value in ("a", "b"))


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
