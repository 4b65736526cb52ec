"""Templates of file names that Lightning would fail on when it first saves."""

import pytest

from backlit.config.filenames import check_filenames

TARGET = "lightning.pytorch.callbacks.ModelCheckpoint"


@pytest.mark.parametrize(
    "template",
    [
        *(
            "mine",
            "{epoch}-{step}",
            "{epoch:02d}_{val/loss:.3f}-{val/acc@5:.2f}",
            "step={step:d}",
            "sub/{val.loss:.2e}",
        ),
        "x" * 190,
    ],
)
def test_a_file_name_is_accepted(template: str) -> None:
    assert not list(check_filenames({"x": {"_target_": TARGET, "filename": template}, "y": None}))


@pytest.mark.parametrize(
    "template",
    [
        *("{0}", "{a}{0}", "{", "}x", "{epoch!r}", "{a[b]}", "{epoch:c}", "{val/loss:d}", f"{{epoch:0{'9' * 20}d}}"),
        *("x" * 300, "é" * 101, "{a:99d}" * 3, "{a_metric:99.2f}{another:99.2f}"),
    ],
)
def test_what_is_no_file_name_is_one_line(template: str) -> None:
    (line,) = check_filenames({"x": {"_target_": TARGET, "filename": template}})
    assert line.startswith("callbacks.x.filename must be a name of at most 200 characters with fields such as {epoch")
    assert len(line) < 300


def test_a_file_name_of_another_class_is_its_own() -> None:
    assert not list(check_filenames({"x": {"_target_": "pathlib.Path", "filename": "{0}"}}))
