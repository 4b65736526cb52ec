from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backlit.sweeps.entries import differing_settings, find_runs, follow_interpolations, sweep_entries
from tests.helpers.sweeps import write_run, write_sweep


def test_a_setting_that_only_later_jobs_have_is_filled_in_from_the_config(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"seed=0": [0.5], "seed=0 optimizer.lr=2": [0.4]})
    (sweep / "0" / ".hydra" / "config.yaml").write_text("seed: 0\noptimizer:\n  lr: 0.1\n")
    entries, _ = sweep_entries(sweep)
    assert [entry.settings for entry in entries] == [{"optimizer.lr": "0.1"}, {"optimizer.lr": "2"}]


def test_a_sweep_of_another_launcher_is_read_from_its_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "0_lr_1", ["lr=1"], [0.5])
    write_run(tmp_path / "1_lr_2", ["lr=2"], [0.4])
    entries, problems = sweep_entries(tmp_path)
    assert [(entry.name, entry.settings) for entry in entries] == [("0", {"lr": "1"}), ("1", {"lr": "2"})]
    assert problems == []


def test_runs_are_found_at_any_depth_and_named_by_their_path(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "runs" / "x", ["lr=1"], [0.5])
    write_run(tmp_path / "b" / "y", ["lr=2"], [0.5], status="failed", error="Traceback\nValueError: no")
    entries, problems = find_runs([tmp_path])
    assert [(entry.name, entry.settings, entry.error) for entry in entries] == [
        ("a/runs/x", {"lr": "1"}, ""),
        ("b/y", {"lr": "2"}, "ValueError: no"),
    ]
    assert problems == []


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=4))
def test_differing_settings_lack_what_is_the_same_everywhere(settings: list[dict[str, str]]) -> None:
    kept = differing_settings(settings)
    for key in "abc":
        is_same = len({each.get(key) for each in settings}) == 1
        for each, left in zip(settings, kept, strict=True):
            assert left.get(key) == (None if is_same else each.get(key))


def test_an_interpolation_becomes_the_value_that_it_names_or_is_left_out() -> None:
    settings = {"seed": "1", "data.seed": "${seed}", "own": "${data.seed}", "home": "${oc.env:HOME}", "x": "${y}"}
    settings |= {"circle": "${circle}", "within": "a ${seed}"}
    assert follow_interpolations(settings) == {"seed": "1", "data.seed": "1", "own": "1"}
