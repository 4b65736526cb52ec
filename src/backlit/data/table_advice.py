"""What to type for a table that cannot be read as it is: which columns are numbers, and which name classes."""

from collections.abc import Sequence
from pathlib import Path

from backlit.data.table_file import Header, is_number, open_table
from backlit.text import assignment, shell_word

# A longer list of columns is not read.
_MOST_LISTED = 20


def advise_on_features(file: Path, header: Header, column: str, label: str, *, is_label_typed: bool) -> str:
    """Return what to type if a column that is to be a feature has something else than numbers.

    Args:
        file: The table.
        header: Whether its first line names the columns.
        column: That column.
        label: The column with the classes.
        is_label_typed: Whether the user has chosen it.
    """
    columns = _columns(file, header)
    numeric = [name for name, cells in columns.items() if all(map(is_number, cells))]
    classes = [name for name in _class_columns(columns) if name not in numeric]
    count, total = sum(not is_number(cell) for cell in columns[column]), len(columns[column])
    what = "it is text in all rows" if count == total else f"so in {count:,} of {total:,} rows"
    features = [name for name in numeric if name != label]
    is_first_alone = count == 1 and not is_number(columns[column][0])
    if header == "auto" and is_first_alone and all(map(str.isdecimal, columns)):  # it was not taken for a header
        return "; if line 1 names the columns: data.header=true"
    if column in classes and not is_label_typed:
        return f"; {what}; if it names the classes: {_typed('label', column)}"
    if not features:
        return f"; {what}, and no other column has numbers alone"
    return f"; {what}; to read columns of numbers alone: {features_to_type(features)}"


def advise_on_label(file: Path, header: Header, label: str) -> str:
    """Return what to type if a column cannot be the label; an empty text if no column names classes."""
    candidates = [name for name in _class_columns(_columns(file, header)) if name != label]
    return f"; these might be: {' or '.join(_typed('label', name) for name in candidates[:3])}" if candidates else ""


def features_to_type(names: Sequence[str]) -> str:
    """Return the argument that chooses columns, as a word of a shell."""
    shown = [*map(_value, names[:_MOST_LISTED]), *(["..."] if len(names) > _MOST_LISTED else [])]
    return shell_word(f"data.features=[{','.join(shown)}]")


def _typed(key: str, name: str) -> str:
    return shell_word(f"data.{key}={_value(name)}")


def _value(name: str) -> str:
    return name if name.isdecimal() else assignment("", name)[1:]


def _columns(file: Path, header: Header) -> dict[str, tuple[str, ...]]:
    """Return the cells of each column."""
    with open_table(file, header) as table:
        names = table.columns or [str(number) for number in range(1, table.width + 1)]
        return dict(zip(names, zip(*(cells for _, cells in table.rows), strict=True), strict=True))


def _class_columns(columns: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the columns with at least two different texts, each in two rows on average."""
    return [name for name, cells in columns.items() if 2 <= len(set(cells)) <= len(cells) / 2 and all(cells)]
