import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from backlit.errors import ConfigError
from backlit.sweeps.journal import JOURNAL, open_journal, read_trials, repair_journal
from backlit.sweeps.search_space import SearchSpace
from backlit.sweeps.study import SAMPLERS, Study, StudySettings

RATE = FloatDistribution(1e-3, 1, log=True)
SPACE = SearchSpace({"lr": RATE, "size": IntDistribution(1, 8)}, [], [[]])


def open_study(directory: Path, space: SearchSpace = SPACE, **settings: Any) -> Study:
    defaults = {"name": "s", "direction": "minimize", "sampler": "tpe", "pruner": "asha", "seed": 3}
    return Study(directory, StudySettings(**{**defaults, **settings}), space)


def ask_and_tell(study: Study, number_of_trials: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(number_of_trials):
        number, parameters = study.ask()
        study.tell(number, abs(parameters["lr"] - 0.1), "complete")
        found.append(parameters)
    return found


@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=pytest.mark.slow) if name == "gp" else name for name in SAMPLERS]
)
def test_a_search_that_was_interrupted_proposes_what_it_would_have_proposed(sampler: str, tmp_path: Path) -> None:
    space = SearchSpace({"lr": FloatDistribution(0, 1, step=0.25), "size": IntDistribution(1, 8)}, [], [[]])
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    whole.mkdir()
    begun.mkdir()
    expected = ask_and_tell(open_study(whole, space, sampler=sampler), 8)
    first = ask_and_tell(open_study(begun, space, sampler=sampler), 3)
    rest = ask_and_tell(open_study(begun, space, sampler=sampler), 5)  # another process opens the journal again
    assert first + rest == expected
    assert len({tuple(parameters.items()) for parameters in expected}) > 4, "it proposes something else each time"
    other = ask_and_tell(open_study(tmp_path, space, sampler=sampler, seed=4), 8)
    assert other != expected or sampler == "cmaes"


def test_successive_halving_keeps_the_better_half_at_equal_steps(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    curves = {0: [0.9, 0.5, 0.5], 1: [0.8, 0.6, 0.4], 2: [1.0], 3: [0.7, 0.7]}
    ended: dict[int, int | None] = {}
    for number, losses in curves.items():
        assert study.ask()[0] == number
        ended[number] = study.report(number, {100 * (epoch + 1): loss for epoch, loss in enumerate(losses)}, 400)
    # At step 100 the best floor(n / 2), but at least one, of the n that were there go on; likewise at 200.
    # 0 is alone at both; 1 is first of two at 100, second at 200; 2 is third of three; 3 is the first of four at 100,
    # and third at 200.
    assert ended == {0: None, 1: 200, 2: 100, 3: 200}
    assert study.report(0, {100: 0.9}, 400) is None, "a known value is ignored"


def test_trials_with_other_batch_sizes_are_compared_at_equal_steps(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for _ in range(4):
        study.ask()
    assert study.report(0, {800: 0.5}, 4000) is None
    # Short epochs: none of the others has a value at so few steps.
    assert study.report(1, {100: 2.0, 200: 0.9, 400: 0.8}, 1000) is None
    assert study.report(2, {100: 3.0}, 1000) == 100
    # Long epochs: trial 1 ended its third epoch earlier, and runs; trial 0 has come as far.
    assert study.report(3, {800: 0.6}, 4000) == 800
    study.tell(1, 0.4, "complete")
    number, _ = study.ask()
    # Now three have come as far: 0.5, 0.6, and the completed one at its last value until then, 0.8.
    assert study.report(number, {800: 0.55}, 4000) is None


def test_other_seeds_propose_other_trials(tmp_path: Path) -> None:
    proposed = []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        study = open_study(tmp_path / str(seed), sampler="random", seed=seed)
        proposed += [study.ask()[1]["lr"] for _ in range(5)]
    assert len(set(proposed)) == 15


@pytest.mark.parametrize(("pruner", "step"), [("none", None), ("median", 20), ("hyperband", 20)])
def test_other_pruners(pruner: str, step: int | None, tmp_path: Path) -> None:
    study = open_study(tmp_path, pruner=pruner)
    for value in [0.1] * 8:
        number, _ = study.ask()
        study.report(number, {10: value, 20: value, 30: value}, 40)
        study.tell(number, value, "complete")
    ended = [study.report(study.ask()[0], {10: 0.5, 20: 0.6}, 40) for _ in range(6)]
    assert (step is None) == (ended == [None] * 6)


def test_the_last_value_of_a_trial_ends_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for value in (0.1, 0.2):
        number, _ = study.ask()
        assert study.report(number, {40: value}, 40) is None


def test_a_maximum_is_searched(tmp_path: Path) -> None:
    study = open_study(tmp_path, direction="maximize")
    for value, ended in ((0.9, None), (0.8, 10), (0.95, None)):
        number, _ = study.ask()
        assert study.report(number, {10: value}, 100) == ended


def test_the_trials_of_an_interrupted_search_are_kept(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    asked = [study.ask() for _ in range(4)]
    study.tell(0, 0.5, "complete")
    study.tell(1, None, "pruned")
    study.tell(2, None, "fail")
    trials = open_study(tmp_path).trials()
    assert [(trial.number, trial.params) for trial in trials] == asked
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING,
    ]  # fmt: skip
    assert not [path for path in tmp_path.iterdir() if path.is_symlink() or path.name != JOURNAL]


def test_a_journal_of_another_space_is_an_error(tmp_path: Path) -> None:
    open_study(tmp_path).ask()
    wider = SearchSpace({"lr": FloatDistribution(1e-3, 10, log=True), "depth": IntDistribution(1, 2)}, [], [[]])
    with pytest.raises(
        ConfigError, match=r"a search that resumes must vary what it has varied .*: lr was Float.*, is Fl"
    ):
        open_study(tmp_path, wider)
    with pytest.raises(ConfigError, match="must be the journal of a search that maximizes"):
        open_study(tmp_path, direction="maximize")


@pytest.mark.parametrize(
    "content",
    ["x", "[" * 100_000, '{"op_code": 4}\n{"op_code": 4}\n', "\x00\xff", '{"op_code": 99, "worker_id": "a"}\n[]\n'],
)
def test_what_is_no_journal_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(ConfigError, match=r"optuna.journal must be the journal of a search, got"):
        open_study(tmp_path)


def test_what_a_killed_process_has_left_in_a_journal_is_removed(tmp_path: Path) -> None:
    repair_journal(tmp_path)
    study = open_study(tmp_path)
    study.ask()
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 6, "work')
    (tmp_path / f"{JOURNAL}.lock").touch()
    repair_journal(tmp_path)
    assert journal.read_bytes() == whole
    assert not (tmp_path / f"{JOURNAL}.lock").exists()
    again = open_study(tmp_path)
    again.tell(0, 0.5, "complete")
    assert [trial.value for trial in open_study(tmp_path).trials()] == [0.5]


@pytest.mark.parametrize("value", ['"{_target_: os.system}"', "7", "NaN", "null", "true"])
def test_a_value_that_no_search_draws_is_no_journal(value: str, tmp_path: Path) -> None:
    open_study(tmp_path, SearchSpace({"lr": RATE}, [], [[]])).ask()
    journal = tmp_path / JOURNAL
    text, number = re.subn(r'("param_value_internal": ?)[^,}]+', rf"\g<1>{value}", journal.read_text())
    assert number == 1
    journal.write_text(text)
    with pytest.raises(ConfigError, match=r"optuna.journal must be the journal of a search, got"):
        open_study(tmp_path, SearchSpace({"lr": RATE}, [], [[]]))


def test_several_directions_and_broken_steps_are_no_journal(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.study.set_user_attr("first_step", "x")
    with pytest.raises(ConfigError, match=r"optuna.journal must be the journal of a search, got"):
        open_study(tmp_path)
    (tmp_path / "two").mkdir()
    optuna.create_study(storage=open_journal(tmp_path / "two" / JOURNAL), study_name="s", directions=["minimize"] * 2)
    for reader in (open_study, read_trials):
        with pytest.raises(ConfigError, match=r"optuna.journal must be the journal of a search"):
            reader(tmp_path / "two")


@pytest.mark.parametrize(
    ("sampler", "distributions", "message"),
    [
        (
            "grid",
            {"lr": RATE},
            "lr must have lists or ranges of values for hydra.sweeper.sampler=grid, got an interval",
        ),
        (
            "cmaes",
            {"lr": RATE},
            "hydra.sweeper.sampler=cmaes must have 2 keys with an interval or a range, got 1: take",
        ),
        ("qmc", {"a": CategoricalDistribution(["1"])}, "hydra.sweeper.sampler=qmc must have 1 keys with an interval"),
    ],
)
def test_a_space_that_a_sampler_cannot_take_is_an_error(
    sampler: str, distributions: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        open_study(tmp_path, SearchSpace(distributions, [], [[]]), sampler=sampler)
    assert str(caught.value).startswith(message)
    assert not list(tmp_path.iterdir())
