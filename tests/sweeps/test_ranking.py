from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backlit.runs.run import Run
from backlit.sweeps.entries import find_runs
from backlit.sweeps.ranking import group_by_settings, rank_entries
from tests.helpers.sweeps import make_entry, write_run


def make_run(value: float | None, mode: str = "min") -> Run:
    run = Run(Path("x"), {"status": "completed", "optimized_metric": "m", "optimized_mode": mode})
    run.__dict__.update(rows=[] if value is None else [{"m": value, "epoch": 0}], metrics={})
    return run


def test_the_largest_value_is_best_where_the_config_says_so(tmp_path: Path) -> None:
    for name, values in {"low": [0.1, 0.2], "high": [0.3, 0.9, 0.4]}.items():
        write_run(tmp_path / name, [], values, optimized_mode="max")
    entries, _ = find_runs([tmp_path])
    assert [(entry.name, entry.best) for entry in rank_entries(entries)] == [("high", (0.9, 2)), ("low", (0.2, 2))]


@given(st.lists(st.floats(-10, 10) | st.none(), min_size=1, max_size=8), st.sampled_from(["min", "max"]))
def test_ranking_sorts_by_the_metric_and_loses_nothing(values: list[float | None], mode: str) -> None:
    ranked = rank_entries([make_entry(make_run(value, mode)) for value in values])
    found = [entry.best[0] if entry.best else None for entry in ranked]
    numbers = [value for value in values if value is not None]
    assert found == sorted(numbers, reverse=mode == "max") + [None] * (len(values) - len(numbers))


def test_groups_have_the_best_mean_first() -> None:
    values = {("1", "0"): 0.1, ("1", "1"): 0.9, ("2", "0"): 0.2, ("2", "1"): 0.4}
    entries = [make_entry(make_run(value), lr=lr, seed=seed) for (lr, seed), value in values.items()]
    groups = group_by_settings(entries)
    assert list(groups) == [(("lr", "2"),), (("lr", "1"),)]
    assert [len(group) for group in groups.values()] == [2, 2]
    assert group_by_settings([make_entry(make_run(0.5), lr="1"), make_entry(make_run(0.4), lr="2")]) == {}
