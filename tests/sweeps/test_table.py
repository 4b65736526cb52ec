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


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (200, ["job", "optimizer.lr", "model.hidden_sizes", "status", "best val/loss", "seconds"], ""),
        (80, ["job", "lr", "hidden_sizes", "status", "best val/loss", "seconds"], ""),
        (70, ["job", "lr", "hidden_sizes", "status", "best val/loss"], "seconds"),
        (55, ["job", "lr", "status", "best val/loss"], "model.hidden_sizes, seconds"),
    ],
)
def test_what_does_not_fit_is_named_below_the_table(
    width: int, shown: list[str], left_out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("backlit.text.get_console", lambda: Console(width=width, force_terminal=True))
    columns = ["job", "optimizer.lr", "model.hidden_sizes", "status", "best val/loss", "seconds", "directory"]
    print_table("a sweep", columns, [["a long name of a job", "0.1", "[4,4]", "completed", 0.12, "3.1", "outputs/a"]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[: -1 if left_out else None])) <= width
    assert lines[1].split() == " ".join(shown).split()
    assert lines[-1].partition("in the file: ")[2] == left_out
