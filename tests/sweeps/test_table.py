from pathlib import Path

import pytest
from rich.console import Console

from backlit.sweeps.table import MAX_CONSOLE_ROWS, print_table, write_tables
from tests.helpers.sweeps import read_table


def test_a_long_table_is_cut_on_the_console_and_whole_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[f"job{number}", "0.123456789", "some/where"] for number in range(MAX_CONSOLE_ROWS + 3)]
    columns = ["job", "loss", "directory"]
    print_table("a sweep", columns, rows)
    printed = capsys.readouterr().out
    assert printed.count("job") == MAX_CONSOLE_ROWS + 1
    assert printed.endswith("  and 3 more, in the file\n")
    assert "0.1235" in printed
    assert "some/where" not in printed
    write_tables(tmp_path, "sweep", columns, rows, [])
    assert [list(row.values()) for row in read_table(tmp_path / "sweep.csv")] == rows


def test_markdown_escapes_bars_and_ends_with_the_notes(tmp_path: Path) -> None:
    write_tables(tmp_path, "sweep", ["job", "key"], [["0", "a|b"]], ["  repeat    backlit-train"])
    assert (tmp_path / "sweep.md").read_text() == (
        "| job | key |\n| --- | --- |\n| 0 | a\\|b |\n\n```\nrepeat    backlit-train\n```\n"
    )


@pytest.mark.parametrize(("width", "shown"), [(200, ["optimizer.lr", "model.hidden_sizes"]), (60, ["optimizer.lr"])])
def test_settings_that_do_not_fit_are_named_below_the_table(
    width: int, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("backlit.sweeps.table.get_console", lambda: Console(width=width, force_terminal=True))
    columns = ["job", "optimizer.lr", "model.hidden_sizes", "status", "best val/loss", "directory"]
    print_table("a sweep", columns, [["a long name of a job", "0.1", "[4,4]", "completed", "0.12", "outputs/a"]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= width
    assert lines[1].split() == ["job", *shown, "status", "best", "val/loss"]
    left_out = "  too wide for this terminal, in the file: model.hidden_sizes"
    assert (lines[-1] == left_out) == (len(shown) == 1)
