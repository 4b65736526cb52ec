"""Text as a console or a command line takes it."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console

from backlit.text import (
    assignment,
    first_line,
    first_sentence,
    flatten,
    metric_text,
    metrics_table,
    path_override,
    quote_value,
    shell_command,
    shell_path,
    shell_word,
    shorten_numbers,
    text_table,
)


def test_a_path_is_shown_as_it_may_be_typed(tmp_path: Path) -> None:
    assert shell_path(tmp_path / "outputs" / "a run") == "'outputs/a run'"
    assert shell_path(Path("/")) == "/"


@pytest.mark.parametrize("setting", ["FORCE_COLOR", "JUPYTER_COLUMNS"])
def test_the_table_has_a_row_a_metric_and_a_column_a_stage(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting, "100")  # a notebook sets the first
    monkeypatch.setattr("rich.console._is_jupyter", lambda: setting == "JUPYTER_COLUMNS")
    lines = metrics_table({"train/loss": 0.5, "train/loss_epoch": 9.0, "val/loss": 0.25, "val/acc": 1.0}).splitlines()
    assert lines[0].split() == ["train", "val"]
    assert lines[2].split() == ["loss", "0.5000", "0.2500"]
    assert lines[3].split() == ["acc", "1.0000"]
    assert len(lines) == 4


def read(argument: str) -> str:
    """Return the value of an argument as a config has it that Hydra composes."""
    override = OverridesParser.create().parse_override(argument)
    assert not override.is_sweep_override()
    value: str = OmegaConf.create({"key": override.value()})["key"]
    return value


MEANINGFUL = "'\"\\\\${x} ,=[](){}~:#!*?;&|<>%@+-./\n\t1e0"


@given(st.text(MEANINGFUL, min_size=1) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@example("null")
@example("1e3")
@example(r"\${x}\'")
def test_a_value_comes_through_shell_hydra_and_config_as_it_is(value: str) -> None:
    for argument in (assignment("key", value), f"key={quote_value(value)}"):
        (word,) = shlex.split(shell_word(argument))
        assert word == argument
        assert read(argument) == value
        assert type(read(argument)) is str


@pytest.mark.process
def test_a_real_shell_reads_a_quoted_word_as_it_is() -> None:
    words = ["a b", "it's", "it's $x", "`x`", "!", "\n", "größe 😀", "\\'\"", "~", "*", "-n", ""]
    printed = subprocess.run(["sh", "-c", f"printf '%s\\0' {shell_command(*words)}"], capture_output=True, text=True)
    assert printed.stdout.split("\0")[:-1] == words


@pytest.mark.parametrize(("name", "typed"), [("-m", "./-m"), ("~x", "./~x"), ("latest", "./latest"), ("run", "run")])
def test_a_path_is_not_mistaken_for_something_else(name: str, typed: str, tmp_path: Path) -> None:
    assert shlex.split(shell_path(tmp_path / name)) == [typed]
    assert read(path_override("run", tmp_path / name)) == typed


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


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.95455, "0.9546"), (0.954549, "0.9545"), (0, "0.0000"), (-1.5, "-1.5000"), (0.00012345, "1.23e-04")],
)
def test_a_metric_has_four_decimals_and_a_small_one_three_digits(value: float, text: str) -> None:
    assert metric_text(value) == text


def test_numbers_are_aligned_to_the_right_and_markup_is_text() -> None:
    table = text_table(["name", "class", "share"], [["a", "[red]", "0.5"], ["a long name", ":smile:", "12"], ["b"]])
    assert table.splitlines() == [
        "  name         class    share",
        f"  {28 * '─'}",
        "  a            [red]      0.5",
        "  a long name  :smile:     12",
        "  b",
    ]


@pytest.mark.parametrize("width", [14, 20, 30, 1000])
def test_a_table_is_folded_to_the_terminal_and_nothing_is_lost(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backlit.text.get_console", lambda: Console(width=width, force_terminal=True))
    cells = ["a name of many words that is long", "0.123456 (0.1)"]
    lines = text_table(["name", "value"], [cells]).splitlines()
    assert max(map(len, lines)) <= width
    below = lines[next(index for index, line in enumerate(lines) if "─" in line) + 1 :]
    assert sorted("".join(below).replace(" ", "")) == sorted("".join(cells).replace(" ", ""))
    assert any("0.123456" in line for line in lines) == (width > 20)
