from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from PIL import Image

from backlit.sweeps.journal import JOURNAL
from backlit.sweeps.search_space import SearchSpace
from backlit.sweeps.search_summary import importance_lines, is_search, write_history
from backlit.sweeps.study import Study, StudySettings
from backlit.sweeps.summary import summarize_sweep
from tests.helpers.sweeps import write_sweep

SPACE = SearchSpace({"lr": FloatDistribution(0, 1), "wd": FloatDistribution(0, 1)}, [], [[]])


def run_trials(directory: Path, number: int) -> None:
    study = Study(directory, StudySettings("s", "minimize", "random", "none", 0), SPACE)
    for _ in range(number):
        trial, parameters = study.ask()
        study.tell(trial, (parameters["lr"] - 0.3) ** 2, "complete")


def test_the_key_on_which_the_value_depends_matters(tmp_path: Path) -> None:
    run_trials(tmp_path, 40)
    (line,) = importance_lines(tmp_path)
    names = line.split()
    assert names[:2] == ["matters", "lr"]  # the value depends on it alone
    assert float(names[2].rstrip(",")) > 0.8
    assert line.endswith("(PED-ANOVA, 40 completed trials)")


def test_a_few_trials_say_nothing(tmp_path: Path) -> None:
    assert not is_search(tmp_path)
    run_trials(tmp_path, 7)
    assert is_search(tmp_path)
    assert importance_lines(tmp_path) == []


def test_a_journal_that_cannot_be_read_is_a_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text("[]\n[]\n")
    (line,) = importance_lines(tmp_path)
    assert line.startswith("  matters   cannot be computed: ")


def test_the_summary_of_a_search_counts_failed_trials_as_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = {f"lr={rate}": [loss] for rate, loss in ((0.1, 3.0), (0.2, 2.0), (0.98, 1.0), (0.3, float("nan")))}
    sweep = write_sweep(tmp_path / "sweep", jobs)
    assert not summarize_sweep(sweep), "a grid with a failed job is not done"
    printed = capsys.readouterr().out
    assert "1 not completed" in printed
    assert "edge" not in printed, "what is not completed may be better"
    run_trials(sweep, 1)
    assert summarize_sweep(sweep)
    printed = capsys.readouterr().out
    assert "not completed" not in printed
    assert "edge      the best lr, 0.98, is at the upper edge; beyond: backlit-train 'lr=interval(0.73, 2)'" in printed
    with Image.open(sweep / "search.png") as image:
        assert image.size == (840, 480)


def test_a_history_without_values_is_not_drawn(tmp_path: Path) -> None:
    write_history(tmp_path)
    run_trials(tmp_path, 0)
    write_history(tmp_path)
    assert not (tmp_path / "search.png").exists()
