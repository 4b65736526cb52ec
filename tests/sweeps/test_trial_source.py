"""A search as the source of jobs; the jobs themselves are written as they would leave their files."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from backlit.config.conf import CONFIG_DIR
from backlit.errors import ConfigError
from backlit.runs.files import write_json
from backlit.runs.run import Run
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.job import Job
from backlit.sweeps.search_space import SearchSpace
from backlit.sweeps.study import Study, StudySettings
from backlit.sweeps.sweep import Sweep
from backlit.sweeps.trial_source import TrialSource
from tests.helpers.sweeps import write_run

MakeSearch = Callable[..., TrialSource]


@pytest.fixture
def make_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSearch:
    """Return a function that makes a search of points by `optimizer.lr`; each call is another attempt."""
    monkeypatch.setattr("backlit.sweeps.fork.CAN_FORK", False)
    directory = tmp_path / "sweep"
    directory.mkdir()

    def make(*, seeds: int = 1, problems: dict[int, str] | None = None, **settings: Any) -> TrialSource:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = compose("train", ["experiment=points"], return_hydra_config=True)
            loader = GlobalHydra.instance().config_loader()
        with open_dict(config):
            config.hydra.sweep.dir = str(directory)
            config.hydra.overrides.task = ["experiment=points"]

        def task(config: DictConfig) -> None: ...

        task.check = lambda config: [(problems or {})[config.seed]] if config.seed in (problems or {}) else []  # type: ignore[attr-defined]
        sweep = Sweep(config, HydraContext(config_loader=loader, callbacks=None), task)  # type: ignore[arg-type]
        space = SearchSpace(
            {"optimizer.lr": FloatDistribution(0.1, 1)},
            ["experiment=points"],
            [[f"seed={seed}"] for seed in range(seeds)],
        )
        study = Study(directory, StudySettings("points", "minimize", "random", "asha", 0), space)
        return TrialSource(sweep, study, **{"gpus": 0, "n_trials": 3, "timeout": None, **settings})

    return make


def next_job(search: TrialSource) -> Job:
    job = search.next_job()
    assert job is not None
    return job


def finish(search: TrialSource, job: Job, losses: list[float], **record: Any) -> None:
    """Let a job end after an epoch for each loss."""
    write_run(job.directory, ["optimizer.lr=1"], losses, **record)
    search.ended(job, Run.read(job.directory))


def set_status(job: Job, status: str, error: str | None = None) -> None:
    run = Run.read(job.directory)
    assert run is not None
    write_json(job.directory / "run.json", run.record | {"status": status, "error": error})


def states(search: TrialSource) -> list[TrialState]:
    return [trial.state for trial in search.study.trials()]


def test_each_trial_is_a_job_with_its_number(make_search: MakeSearch) -> None:
    search = make_search()
    values = [0.5, 0.3, 0.4]
    for number, value in enumerate(values):
        assert search.remaining() == 3 - number
        job = next_job(search)
        assert job.number == number
        finish(search, job, [value])
    assert (search.next_job(), search.remaining(), search.handles()) == (None, 0, [])
    trials = search.study.trials()
    assert [trial.value for trial in trials] == values
    recorded = read_sweep(search.sweep.directory)["jobs"]
    assert [job["number"] for job in recorded] == [0, 1, 2]
    for trial, job in zip(trials, recorded, strict=True):
        assert job["overrides"] == ["experiment=points", f"optimizer.lr={trial.params['optimizer.lr']}", "seed=0"]


def test_a_failed_trial_is_a_result_and_ten_in_a_row_end_the_search(make_search: MakeSearch) -> None:
    search = make_search(n_trials=30)
    for _ in range(4):
        finish(search, next_job(search), [1.0], status="failed", error="FloatingPointError: train/loss is nan")
    finish(search, next_job(search), [0.5])
    for _ in range(10):
        assert not search.is_hopeless
        search.ended(next_job(search), None)
    assert search.is_hopeless
    assert (search.next_job(), search.remaining()) == (None, 0)
    assert states(search) == [TrialState.FAIL] * 4 + [TrialState.COMPLETE] + [TrialState.FAIL] * 10


def test_a_rejected_trial_is_in_the_table_with_its_reason(make_search: MakeSearch) -> None:
    search = make_search(problems={0: "optimizer.lr must be less"}, n_trials=2)
    assert search.next_job() is None
    assert states(search) == [TrialState.FAIL] * 2
    recorded = read_sweep(search.sweep.directory)["jobs"]
    runs = [Run.read(search.sweep.directory / job["directory"]) for job in recorded]
    assert [(run.status, run.record["error"]) for run in runs if run] == [("failed", "optimizer.lr must be less")] * 2


def test_a_job_that_does_worse_than_others_is_pruned(make_search: MakeSearch) -> None:
    search = make_search()
    planned: dict[str, Any] = {"planned_steps": 40, "status": "running"}
    good, bad = next_job(search), next_job(search)
    write_run(good.directory, ["optimizer.lr=1"], [0.5], **planned)
    assert search.find_losers([good, bad]) == {}
    write_run(bad.directory, ["optimizer.lr=1"], [0.6, 0.7], **planned)
    assert search.find_losers([good, bad]) == {bad.number: "pruned at epoch 1: best val/loss 0.6000"}
    assert search.find_losers([good, bad]) == {bad.number: "pruned at epoch 1: best val/loss 0.6000"}
    set_status(bad, "pruned", "pruned at epoch 1: best val/loss 0.6000")
    search.ended(bad, Run.read(bad.directory))
    assert states(search) == [TrialState.RUNNING, TrialState.PRUNED]


def test_in_its_last_epoch_a_job_is_not_pruned(make_search: MakeSearch) -> None:
    search = make_search()
    planned: dict[str, Any] = {"planned_steps": 40, "planned_epochs": 1, "status": "running"}  # counted from 0, say
    good, bad = next_job(search), next_job(search)
    write_run(good.directory, ["optimizer.lr=1"], [0.5], **planned)
    write_run(bad.directory, ["optimizer.lr=1"], [0.6], **planned)
    assert search.find_losers([good, bad]) == {}


def test_a_job_is_judged_by_its_best_value(make_search: MakeSearch) -> None:
    search = make_search()
    planned: dict[str, Any] = {"planned_steps": 400, "status": "running"}
    jobs = [next_job(search) for _ in range(3)]
    for job, losses in zip(jobs, ([0.5, 0.4], [0.3, 0.9], [0.6, 0.6]), strict=True):
        write_run(job.directory, ["optimizer.lr=1"], losses, **planned)
    assert list(search.find_losers(jobs)) == [jobs[2].number]
    assert search.study.trials()[1].intermediate_values == {10: 0.3, 20: 0.3}


def test_curves_that_cannot_be_read_end_nothing(make_search: MakeSearch) -> None:
    search = make_search()
    job = next_job(search)
    write_run(job.directory, ["optimizer.lr=1"], [0.5], planned_steps=40, status="running")
    (job.directory / "metrics.csv").write_text("step,epoch\nx,y\n")
    assert search.find_losers([job]) == {}
    search.ended(job, Run.read(job.directory))
    assert states(search) == [TrialState.FAIL]


def test_a_job_that_completes_before_it_is_stopped_counts(make_search: MakeSearch) -> None:
    search = make_search()
    good, bad = next_job(search), next_job(search)
    write_run(good.directory, ["optimizer.lr=1"], [0.5], planned_steps=40, status="running")
    write_run(bad.directory, ["optimizer.lr=1"], [0.9], planned_steps=40, status="running")
    assert list(search.find_losers([good, bad])) == [bad.number]
    set_status(bad, "completed")
    search.ended(bad, Run.read(bad.directory))
    assert states(search) == [TrialState.RUNNING, TrialState.COMPLETE]


def test_seeds_repeat_a_trial_whose_first_job_is_completed(make_search: MakeSearch) -> None:
    search = make_search(seeds=3, n_trials=2)
    assert search.remaining() == 6
    first = next_job(search)
    second = next_job(search)  # of another trial: whether the first is worth three jobs is not known
    assert (first.number, second.number) == (0, 3)
    finish(search, first, [0.6])
    rest = [next_job(search) for _ in range(2)]
    assert [job.number for job in rest] == [1, 2]
    rename = write_run(second.directory, ["optimizer.lr=1"], [0.9], status="pruned", error="pruned at epoch 1")
    search.ended(second, Run.read(rename))
    for job, value in zip(rest, (0.4, 0.5), strict=True):
        finish(search, job, [value])
    assert (search.next_job(), search.remaining()) == (None, 0)
    recorded = [job["number"] for job in read_sweep(search.sweep.directory)["jobs"]]
    assert recorded == [0, 1, 2, 3], "those that repeat a pruned trial are in no table"
    complete, pruned = search.study.trials()
    assert complete.value == pytest.approx(statistics.mean([0.6, 0.4, 0.5]))
    assert pruned.state == TrialState.PRUNED


def test_without_new_trials_the_seeds_of_running_ones_start(make_search: MakeSearch) -> None:
    search = make_search(seeds=2, n_trials=1)
    jobs = [next_job(search), next_job(search)]
    assert [job.number for job in jobs] == [0, 1]
    search.ended(jobs[0], None)  # it was killed
    assert search.find_losers([jobs[1]]) == {1: f"stopped: {jobs[0].name} has failed"}
    rename = write_run(jobs[1].directory, ["optimizer.lr=1"], [0.9], status="pruned", error="stopped")
    search.ended(jobs[1], Run.read(rename))
    assert states(search) == [TrialState.FAIL]


def test_an_interrupted_search_goes_on_with_its_open_trials(make_search: MakeSearch) -> None:
    search = make_search()
    done, stopped, untold = (next_job(search) for _ in range(3))
    finish(search, done, [0.5])
    write_run(stopped.directory, ["optimizer.lr=1"], [0.5], status="interrupted")
    write_run(untold.directory, ["optimizer.lr=1"], [0.25])  # it ended after the search was killed
    again = make_search(n_trials=4)
    assert again.remaining() == 3
    job = next_job(again)
    assert (job.number, job.directory, job.overrides) == (stopped.number, stopped.directory, stopped.overrides)
    new = next_job(again)
    assert new.number == 3
    assert [trial.value for trial in again.study.trials()] == [0.5, None, 0.25, None]
    assert len({trial.params["optimizer.lr"] for trial in again.study.trials()}) == 4


def test_a_trial_that_was_half_asked_for_is_failed_and_another_one_takes_its_place(
    make_search: MakeSearch,
) -> None:
    search = make_search()
    finish(search, next_job(search), [0.5])
    search.study.study.ask()  # a kill before its first key was drawn
    again = make_search()
    assert again.remaining() == 2
    assert [next_job(again).number, next_job(again).number] == [2, 3]
    assert again.next_job() is None
    assert states(again) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]


def test_other_seeds_are_rejected_when_a_search_resumes(make_search: MakeSearch) -> None:
    make_search(seeds=2)
    with pytest.raises(ConfigError, match="a search that resumes must repeat trials with its seeds"):
        make_search(seeds=3)


def test_a_trial_whose_first_job_is_pruned_is_pruned_whatever_its_other_seeds_reach(make_search: MakeSearch) -> None:
    search = make_search(seeds=2, n_trials=1)
    first, second = next_job(search), next_job(search)
    write_run(first.directory, ["optimizer.lr=1"], [0.9], status="pruned", error="pruned at epoch 1")
    search.ended(first, Run.read(first.directory))
    finish(search, second, [0.1])
    assert states(search) == [TrialState.PRUNED]


def test_after_a_failed_seed_no_other_starts(make_search: MakeSearch) -> None:
    search = make_search(seeds=3, n_trials=1)
    first, second = next_job(search), next_job(search)
    search.ended(second, None)
    finish(search, first, [0.1])
    assert (search.next_job(), search.remaining()) == (None, 0)
    assert states(search) == [TrialState.FAIL]


def test_a_seed_that_an_earlier_attempt_has_begun_is_closed_with_its_trial(make_search: MakeSearch) -> None:
    search = make_search(seeds=2, n_trials=1)
    first, second = next_job(search), next_job(search)
    for job in (first, second):
        write_run(job.directory, ["optimizer.lr=1"], [0.9], status="interrupted")
    again = make_search(seeds=2, n_trials=1)
    first = next_job(again)
    set_status(first, "pruned", "pruned at epoch 1")
    again.ended(first, Run.read(first.directory))
    run = Run.read(second.directory)
    assert run is not None
    assert (run.status, run.record["error"]) == ("pruned", "pruned at epoch 1")


def test_a_value_that_is_not_finite_is_a_failure(make_search: MakeSearch) -> None:
    search = make_search()
    job = next_job(search)
    write_run(job.directory, ["optimizer.lr=1"], [0.5])
    write_json(job.directory / "metrics.json", {"metrics": {"val/loss_best": None, "val/loss": 1.0}})
    search.ended(job, Run.read(job.directory))
    assert states(search) == [TrialState.FAIL]


def test_after_the_timeout_no_new_trial_starts(make_search: MakeSearch) -> None:
    search = make_search(timeout=1e-9)
    assert (search.next_job(), search.remaining()) == (None, 0)
