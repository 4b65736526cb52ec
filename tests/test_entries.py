from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backlit.entries import Entry, differing, find_runs, ranked
from backlit.report import sum_up
from backlit.run import Run
from tests.test_report import make_run, make_sweep, read_csv


def test_max_is_best_where_the_config_says_so(tmp_path: Path) -> None:
    for name, values in {"low": [0.1, 0.2], "high": [0.3, 0.9, 0.4]}.items():
        make_run(tmp_path / name, [], values, optimized_mode="max")
    entries, _ = find_runs([tmp_path])
    assert [(entry.name, entry.best) for entry in ranked(entries)] == [("high", (0.9, 2)), ("low", (0.2, 2))]


@given(st.lists(st.floats(-10, 10) | st.none(), min_size=1, max_size=8), st.sampled_from(["min", "max"]))
def test_ranking_sorts_and_loses_nothing(values: list[float | None], mode: str) -> None:
    entries = []
    for value in values:
        run = Run(Path("x"), {"status": "completed", "optimized_metric": "m", "optimized_mode": mode})
        run.__dict__.update(rows=[] if value is None else [{"m": value, "epoch": 0}], metrics={})
        entries.append(Entry("x", Path("x"), run))
    found = [entry.best[0] if entry.best else None for entry in ranked(entries)]
    numbers = [value for value in values if value is not None]
    assert found == sorted(numbers, reverse=mode == "max") + [None] * (len(values) - len(numbers))


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path: Path) -> None:
    import os
    import platform

    gone = make_run(tmp_path / "gone", [], [1.0], status="running", host=platform.node(), pid=2**22 + 1)
    here = make_run(tmp_path / "here", [], [1.0], status="running", host=platform.node(), pid=os.getpid())
    elsewhere = make_run(tmp_path / "elsewhere", [], [1.0], status="running", host="another", pid=1)
    runs = [Run.read(directory) for directory in (gone, here, elsewhere)]
    assert [run.status for run in runs if run] == ["interrupted", "running", "running"]


def test_a_key_that_came_later_is_filled_in(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", {"seed=0": [0.5], "seed=0 optimizer.lr=2": [0.4]})
    (sweep / "0" / ".hydra" / "config.yaml").write_text("seed: 0\noptimizer:\n  lr: 0.1\n")
    sum_up(sweep)
    assert [row["optimizer.lr"] for row in read_csv(sweep / "sweep.csv")] == ["2", "0.1"]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=4))
def test_differing_keeps_what_is_not_the_same(settings: list[dict[str, str]]) -> None:
    kept = differing(settings)
    for key in "abc":
        is_same = len({one.get(key) for one in settings}) == 1
        for one, left in zip(settings, kept, strict=True):
            assert left.get(key) == (None if is_same else one.get(key))
