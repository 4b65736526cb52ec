"""Which texts of a recorded command name a place outside of a run directory."""

import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest

import backlit.callbacks
import backlit.data
import backlit.loggers
from backlit.runs.places import outside_override, outside_places, override_to_type
from backlit.training.last_checkpoint import LastCheckpoint

ELSEWHERE = [
    "/home/me",
    "~/x",
    "~root/x",
    "../x",
    "a/../../x",
    "..",
    "a/..",
    "file:///x",
    "local://x",
    "memory://x",
    "sqlite:///x.db",
    "s3://bucket/x",
    "simplecache::file://x",
    "C:/x",
    "a\nb",
    "{step:c}x",
    "{epoch:/>3}x",
    "{epoch:.>3}/x",
    "{/x}",
    "a/{..}/{x!s}",
    "{x.__class__}",
    "{",
]


@pytest.mark.parametrize("text", ELSEWHERE)
def test_what_looks_like_a_place_elsewhere_is_one_whatever_the_key(text: str) -> None:
    values: list[Any] = [text, [text], {"a": {"b": [1, text]}}]
    assert [list(outside_places(value, "x.y", Path("run"))) for value in values] == [
        [("x.y", text)],
        [("x.y", text)],
        [("x.y.a.b", text)],
    ]
    assert not list(outside_places(text, "tags", None))


@pytest.mark.parametrize(
    "key", ["data_dir", "dirpath", "path", "save_dir", "root", "log_file", "_args_", "tracking_uri"]
)
def test_the_value_of_a_key_for_a_path_is_one_whatever_it_looks_like(key: str) -> None:
    assert list(outside_places({key: "notes.txt"}, "x", Path("run"))) == [(f"x.{key}", "notes.txt")]
    assert list(outside_places({key: ""}, "x", Path("run"))) == [(f"x.{key}", "")]
    assert list(outside_places({key: ["a", None, 3]}, "x", None)) == [(f"x.{key}", "a")]
    assert not list(outside_places({key: "run/notes.txt"}, "x", Path("run")))
    assert list(outside_places({key: "run/notes.txt"}, "x", None))
    assert list(outside_places({key: "run/{step:c}x"}, "x", Path("run")))


# Each lies in the directory for who reads it as it is: braces with one name, and a variable, as a part of the path; a
# step upwards from a part of the path to which it is joined.
@pytest.mark.parametrize(
    "text", ["{a/b/c/d}/../../../x", "a/../b", "a/$HOME", "$HOME/x", "a\\..\\b", "..", "{epoch:0999d}", "{a:.999f}"]
)
@pytest.mark.parametrize("absolute", [False, True])
def test_what_is_moved_when_it_is_used_lies_elsewhere(
    text: str, absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = f"{tmp_path}/{text}" if absolute else text
    assert list(outside_places({"filename": shown, "save_dir": shown}, "x", tmp_path))
    plain = f"{tmp_path}/a/{{val/loss:.2f}}" if absolute else "a/{val/loss:.2f}"
    assert not list(outside_places({"filename": plain, "save_dir": plain}, "x", tmp_path))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("scheduler.monitor", "val/loss"),
        ("trainer.profiler", "simple"),
        ("trainer.precision", "bf16-mixed"),
        ("task_name", "points"),
        ("x.filename", "{epoch}-{step}"),
        ("x.filename", "{epoch:02d}_{val/loss:.3f}-{val/acc@5:.2f}"),
        ("trainer.max_time", "00:12:00:00"),
        ("search.lr", "tag(log, interval(1e-4, 1e-1))"),
        ("data.data_dir", "data"),
        ("x.name", ""),
        ("callbacks.x.message", "1:2 a.b..."),
    ],
)
def test_other_texts_are_no_places(key: str, text: str) -> None:
    assert not list(outside_places(text, key, None))


@pytest.mark.parametrize(
    "override",
    [
        "x.y=/a",
        "+x={_target_: a.B, path: notes.txt}",
        "x.y='/a b'",
        "x=[1,{a: '../b'}]",
        "x=1,/a",
        "x=choice('1','/a')",
        "x=choice({path: a})",
        "x=shuffle(1,/a)",
        "x=sort(b,/a)",
        "x=tag(t,choice(b,/a))",
        "x=str(/a)",
        "x=glob(/a*)",
        "++data.data_dir=data2",
    ],
)
def test_places_are_found_in_everything_that_an_override_can_be(override: str) -> None:
    assert outside_override(override, Path("run"))
    assert not outside_override(
        override.replace("/a", "run").replace("../b", "b").replace("notes.txt", "run/a"), Path()
    )


@pytest.mark.parametrize("override", ["x=range(1,9)", "x=interval(0,1)", "~x", "x=", "x=null", "x=[", "data=a,b"])
def test_overrides_without_texts_name_no_place(override: str) -> None:
    assert not outside_override(override, None)


def test_every_argument_for_a_path_of_a_part_of_a_run_is_recognised() -> None:
    modules = [lightning.pytorch.callbacks, lightning.pytorch.loggers, backlit.callbacks, backlit.loggers, backlit.data]
    parts = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    found = set()
    for part in [*parts, LastCheckpoint, lightning.Trainer]:
        for name, parameter in inspect.signature(part).parameters.items():
            if any(word in str(parameter.annotation) for word in ("Path", "_PATH", "PathLike")):
                found.add(name)
                assert list(outside_places({name: "x"}, "", None)), f"{part}: {name}"
    assert {"dirpath", "save_dir", "path", "default_root_dir"} <= found


def test_a_recorded_path_is_typed_as_it_exists_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "outputs" / "train" / "runs" / "1"
    run.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a b").mkdir()
    (tmp_path / "t.csv").touch()
    cases = {
        "data.file=t.csv": f"data.file={tmp_path}/t.csv",
        "+data.data_dir='a b'": f"+data.data_dir='{tmp_path}/a b'",
        "data.file=gone.csv": "data.file=gone.csv",
        f"data.file={tmp_path}/t.csv": f"data.file={tmp_path}/t.csv",
        "data.more={file: t.csv}": "data.more={file: t.csv}",
        "data.file='" + 300 * "x" + "'": "data.file='" + 300 * "x" + "'",
    }
    assert all(override_to_type(recorded, run) == recorded for recorded in cases)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert {recorded: override_to_type(recorded, run) for recorded in cases} == cases
