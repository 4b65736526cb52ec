"""Text as a console or a command line takes it."""

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from backlit.text import (
    first_line,
    first_sentence,
    flatten,
    metrics_table,
    path_argument,
    quote_value,
    shell_path,
    shorten_numbers,
)


def test_a_path_is_shown_as_it_may_be_typed(tmp_path: Path) -> None:
    assert shell_path(tmp_path / "outputs" / "a run") == "'outputs/a run'"
    assert shell_path(Path("/")) == "/"


def test_the_table_has_a_row_a_metric_and_a_column_a_stage() -> None:
    lines = metrics_table({"train/loss": 0.5, "train/loss_epoch": 9.0, "val/loss": 0.25, "val/acc": 1.0}).splitlines()
    assert lines[0].split() == ["train", "val"]
    assert lines[2].split() == ["loss", "0.5000", "0.2500"]
    assert lines[3].split() == ["acc", "1.0000"]
    assert len(lines) == 4


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_quoted_value_is_what_hydra_reads(value: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"key={quote_value(value)}"])
    assert override.value() == value


@pytest.mark.parametrize("name", ["run", "a run", "a=b,c", "it's"])
def test_a_path_may_be_typed_as_an_override(name: str, tmp_path: Path) -> None:
    (argument,) = shlex.split(f"run={path_argument(tmp_path / name)}")
    (override,) = OverridesParser.create().parse_overrides([argument])
    assert override.value() == name


def test_long_fractions_are_cut() -> None:
    assert shorten_numbers("lr=0.12520653814999466, n=3, x=0.25") == "lr=0.1252, n=3, x=0.25"


def test_an_error_is_shortened_to_its_first_line_or_sentence() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(FileNotFoundError(2, "No such file", "a.txt")) == "a.txt: No such file"
    assert first_sentence(RuntimeError("[gloo/tcp.cc:81] Connection closed. This may be")) == "Connection closed"
    assert first_sentence(RuntimeError("")) == "RuntimeError"


def test_nested_values_get_names_with_a_separator() -> None:
    nested = {"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "seed": 0, "scheduler": {}}
    flat = flatten(nested, "/")
    assert flat.keys() == {"optimizer/lr", "optimizer/betas", "seed"}
    assert flat["optimizer/lr"] == 0.1
