"""Tables as people have them, and what is wrong with them; numbers are compared with those of NumPy."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from backlit.data import TableDataModule
from backlit.data.table_reader import TableReader
from backlit.errors import ConfigError
from tests.helpers.own_files import KINDS, write_table

SMALL = "a,b,kind\n1,2,x\n3,4,y\n5,6,x\n7,8,y\n9,10,x\n11,12,y\n13,1,x\n14,2,y\n"


def read(text: str | bytes = SMALL, **arguments: Any) -> TableDataModule:
    Path("t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    data = TableDataModule(**({"file": "t.csv"} | arguments))
    data.prepare_data()
    return data


def rejected(text: str | bytes = SMALL, **arguments: Any) -> str:
    with pytest.raises(ValueError, match=r".") as raised:
        read(text, **arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def everything(data: TableDataModule) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [part for part in (data.train_set, data.val_set, data.test_set) if part is not None]
    return torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])


def test_every_row_is_in_one_part_and_features_are_standardised_by_the_training_rows() -> None:
    rows = write_table(Path("t.csv"))
    data = TableDataModule(file="t.csv", val_fraction=0.1, test_fraction=0.2)
    data.setup("fit")
    assert data.val_set is not None
    assert [len(part) for part in (data.train_set, data.val_set, data.test_set)] == [42, 6, 12]
    assert torch.bincount(data.test_set.targets).tolist() == [4, 4, 4]
    assert (data.class_names, data.num_classes, data.input_shape) == (KINDS, 3, (2,))
    inputs, targets = everything(data)
    found = {(*values, KINDS[label]) for values, label in zip(inputs.tolist(), targets.tolist(), strict=True)}
    assert found == {(float(height), float(width), kind) for height, width, kind in rows}
    train = data.train_set.inputs.numpy()
    expected = (train - train.mean(0)) / train.std(0)
    numpy.testing.assert_allclose(data.prepare_inputs(data.train_set.inputs, torch.float64), expected, atol=1e-12)
    assert data.prepare_inputs(data.train_set.inputs, torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace(",", ";"),
        SMALL.replace(",", "\t"),
        SMALL.replace("\n", "\r\n"),
        "\ufeff" + SMALL + "\n\n",
        SMALL.replace("1,2,x", ' 1.0 ,2e0,"x"'),
        SMALL.removeprefix("a,b,kind\n"),
    ],
)
def test_other_ways_to_write_a_table_are_the_same_table(text: str) -> None:
    expected, data = everything(read()), everything(read(text))
    assert all(map(torch.equal, data, expected))


def test_columns_are_chosen_by_name_or_without_a_header_by_number() -> None:
    data = read("x,1,10,5\ny,2,20,6\n" * 6, label=1, features=[4, 2])
    assert {tuple(row) for row in everything(data)[0].tolist()} == {(5, 1), (6, 2)}
    named = read("kind,a,b,note\n" + "x,1,10,?\ny,2,20,!\n" * 6, label="kind", features=["b"])
    assert set(everything(named)[0].flatten().tolist()) == {10, 20}
    assert read("x,1\ny,2\n" * 6, label=1, header=False).class_names == ("x", "y")


def test_labels_that_are_numbers_are_classes_in_the_order_of_the_numbers() -> None:
    assert read("a,digit\n" + "1,10\n2,9\n3,-1\n" * 6).class_names == ("-1", "9", "10")


def test_a_table_for_the_test_is_read_with_the_same_columns_and_scale() -> None:
    Path("test.csv").write_text("kind,b,a\ny,4,300\n")
    data = read(test_file="test.csv")
    assert data.test_set.inputs.tolist() == [[300, 4]]
    assert data.test_set.targets.tolist() == [1]
    assert data.val_set is not None
    assert len(data.train_set) + len(data.val_set) == 8
    Path("test.csv").write_text("kind,b,a\nz,4,300\n")
    assert rejected(test_file="test.csv") == "file must have no label in column kind but x, y, got 'z' in test.csv"
    Path("test.csv").write_text("kind,b\nx,4\n")
    assert rejected(test_file="test.csv") == "file must have a column a, but test.csv has kind, b"


def test_a_column_of_equal_numbers_is_zero() -> None:
    data = read("a,b,kind\n" + "0.1,1,x\n0.1,2,y\n" * 10)
    assert data.std is not None
    assert data.std[0] == 1
    assert data.prepare_inputs(data.train_set.inputs, torch.float32)[:, 0].abs().max() < 1e-6


def test_given_mean_and_std_are_used() -> None:
    data = read(mean=[1, 2], std=[2, 4])
    assert data.prepare_inputs(torch.tensor([[5.0, 10.0]]), torch.float32).tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", {}, "t.csv must be a table, and is empty"),
        ("a,b,kind\n", {}, "file must have rows, and t.csv has none"),
        (b"\xff\xfe\x00", {}, "t.csv must be a table as text (CSV, in UTF-8), and is not"),
        (SMALL.replace("3,4", ",4"), {}, "t.csv, line 3, must have a finite number in column a, got ''"),
        (SMALL.replace("3,4", "3,n/a"), {}, "t.csv, line 3, must have a finite number in column b, got 'n/a'"),
        (
            SMALL.replace("3,4", "3,n/a"),
            {},
            "t.csv, line 3, must have a finite number in column b, got 'n/a'; so in 1 of 8 rows; to read columns of "
            "numbers alone: 'data.features=[a]'",
        ),
        (
            "a,note 1,kind\n1,u,x\n2,v,y\n" + "3,w,x\n4,z,y\n" * 2,
            {},
            "t.csv, line 2, must have a finite number in column note 1, got 'u'; it is text in all rows; to read "
            "columns of numbers alone: 'data.features=[a]'",
        ),
        (
            "kind,a,b c\n" + "x,1,2\ny,3,4\n" * 3,
            {},
            "t.csv, line 2, must have a finite number in column kind, got 'x'; it is text in all rows; if it names the "
            "classes: data.label=kind",
        ),
        (
            "kind,a,b c\n" + "x,1,2\ny,3,?\n" * 3,
            {"label": "kind"},
            "t.csv, line 3, must have a finite number in column b c, got '?'; so in 3 of 6 rows; to read columns of "
            "numbers alone: 'data.features=[a]'",
        ),
        (
            "a;b;kind\n" + "1,5;2,5;x\n1,0;2,0;y\n" * 3,
            {},
            "t.csv, line 2, must have a finite number in column a, got '1,5'; decimals have a point: 1.5",
        ),
        (
            "1,5;2,5;x\n1,0;2,0;y\n" * 3,
            {},
            "t.csv, line 2, must have a finite number in column 1,5, got '1,0'; decimals have a point: 1.0",
        ),
        (
            "a,b,kind\n" + "1,5,2,5,x\n" * 3,
            {},
            "t.csv, line 2, must have 3 cells, as the first, and has 5; decimals have a point, 1.5, and a cell with a "
            "comma is in quotes",
        ),
        (
            "a,2020,kind\n" + "1,2,x\n3,4,y\n" * 3,
            {},
            "t.csv, line 1, must have a finite number in column 1, got 'a'; if line 1 names the columns: "
            "data.header=true",
        ),
        (
            ",a,b c,kind\n" + "0,1,2,x\n1,3,4,y\n" * 3,
            {},
            "features must be given for a table with a column that has no name, as that of the row numbers which "
            "pandas writes, got t.csv: \"data.features=[a,'b c']\"",
        ),
        ("a|b|kind\n1|2|x\n", {}, "t.csv must have columns that are separated by commas, semicolons or tabs, got one:"),
        (
            "species,a,price\n" + "x,1,1.5\nx,2,1.7\ny,3,1.9\ny,4,2.5\n",
            {"features": ["a"]},
            "label must be a column of classes, each with some rows, and column price of t.csv has 4 different texts "
            "in 4 rows; these might be: data.label=species",
        ),
        (SMALL.replace("3,4", "inf,4"), {}, "t.csv, line 3, must have a finite number in column a, got 'inf'"),
        (SMALL.replace("3,4,y", "3,4"), {}, "t.csv, line 3, must have 3 cells, as the first, and has 2"),
        (SMALL.replace("3,4,y", "3,4,"), {}, "t.csv, line 3, must have a label in column kind, got none"),
        (SMALL.replace("a,b", "a,a"), {}, "t.csv must have a name of its own for each column, and has 'a' twice"),
        (SMALL, {"label": "kinds"}, "label must be a column of t.csv, got kinds; did you mean kind?"),
        (SMALL, {"label": "z"}, "label must be a column of t.csv, got z: a, b, kind"),
        (SMALL, {"features": ["a", "c", "d"]}, "features must be a column of t.csv, got c: a, b, kind"),
        (SMALL, {"features": ["a", "kind"]}, "features must be different columns beside the label, one at least (kind"),
        (SMALL, {"label": "a"}, "t.csv, line 2, must have a finite number in column kind, got 'x'"),
        (SMALL, {"mean": [1]}, "mean must be a number for each of 2 features, got 1"),
        (SMALL, {"file": "nowhere.csv"}, "nowhere.csv cannot be read: No such file or directory"),
        (SMALL, {"file": "."}, ". cannot be read: Is a directory"),
        (SMALL, {"val_fraction": 0.9}, "val_fraction must be < 0.85 (1 - test_fraction), got 0.9"),
        (SMALL, {"test_fraction": 0.01}, "test_fraction must be large enough for a sample of a class (8 samples), got"),
        (
            "a,kind\n1,x\n2,x\n",
            {},
            "label must be a column of at least two classes, and column kind of t.csv has 'x' in all 2 rows",
        ),
        (
            "a,price\n1,1.5\n2,2.5\n3,3.5\n",
            {},
            "label must be a column of classes, each with some rows, and column price of t.csv has 3 different texts",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line_that_names_the_place(
    text: str | bytes, arguments: dict[str, Any], message: str
) -> None:
    assert rejected(text, **arguments).startswith(message)


def reader(batch_size: int = 2) -> TableReader:
    return TableReader(["a", "b", "kind"], ["b", "a"], "kind", batch_size)


@pytest.mark.parametrize(
    ("text", "sources", "values", "true"),
    [
        ("kind,note,a,b\nx,?,1,2\ny,!,3,4\nx,,5,6\n", [2, 3, 4], [[2, 1], [4, 3], [6, 5]], ["x", "y", "x"]),
        ("a,b\n1,2\n\n3,4\n", [2, 4], [[2, 1], [4, 3]], [None, None]),
        ("1,2,x\n3,4,y\n", [1, 2], [[2, 1], [4, 3]], ["x", "y"]),  # as the training's table
        ("2,1\n4,3\n", [1, 2], [[2, 1], [4, 3]], [None, None]),  # the features alone
    ],
)
def test_rows_are_predicted_by_the_names_of_their_columns(
    text: str, sources: list[int], values: list[list[float]], true: list[str | None]
) -> None:
    Path("new.csv").write_text(text)
    batches = list(reader().batches(["new.csv"]))
    assert torch.cat([inputs for _, inputs in batches]).tolist() == values
    rows = [row for part, _ in batches for row in part]
    assert [row["source"] for row in rows] == [f"new.csv:{line}" for line in sources]
    assert [row.get("true_class") for row in rows] == true


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,c\n1,2\n", "new.csv must have a column b (of b, a), got a, c"),
        ("1,2,3,4\n", "new.csv must have 2 columns (b, a), or a header, got 4 without a header"),
        ("a,b\n1,2\n3,x\n", "new.csv, line 3, must have a finite number in column b, got 'x'"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(text: str, message: str) -> None:
    Path("new.csv").write_text(text)
    with pytest.raises(ConfigError) as raised:
        list(reader().batches(["new.csv"]))
    assert raised.value.problems == [message]
