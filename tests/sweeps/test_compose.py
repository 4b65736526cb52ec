import pickle
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, RunMode

from backlit.config.conf import CONFIG_DIR
from backlit.sweeps.attempts import record_jobs
from backlit.sweeps.compose import compose_jobs, job_config, number_of_digits
from backlit.sweeps.sweep import Sweep


def make_sweep(*typed: str) -> Sweep:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        setup_globals()
        loader = GlobalHydra.instance().config_loader()
        overrides = ["experiment=points", "hydra.sweep.dir=sweep", *typed]
        exclude = "hydra.job.config.override_dirname.exclude_keys=[experiment]"
        config = loader.load_configuration("train", [*overrides, exclude], RunMode.MULTIRUN)
    unused: Any = None
    Path("sweep").mkdir(exist_ok=True)
    return Sweep(config, HydraContext(loader, unused), unused)


def overrides_of(*seeds: int) -> list[list[str]]:
    return [["experiment=points", f"seed={seed}"] for seed in seeds]


@pytest.mark.parametrize(("n_jobs", "digits"), [(1, 1), (10, 1), (11, 2), (100, 2), (101, 3), (10_000, 4)])
def test_directories_have_as_many_digits_as_the_highest_number(n_jobs: int, digits: int) -> None:
    assert number_of_digits(n_jobs) == digits


def test_the_directories_of_many_jobs_sort_like_their_numbers() -> None:
    jobs = compose_jobs(make_sweep(), overrides_of(*range(11)), 0)
    names = [job.directory.name for job in jobs]
    assert (names[0], names[10]) == ("00_seed_0", "10_seed_10")
    assert names == sorted(names)
    assert [job.directory.name for job in compose_jobs(make_sweep(), overrides_of(*range(10)), 0)][9] == "9_seed_9"


def test_recorded_jobs_keep_their_names_when_others_are_added() -> None:
    sweep = make_sweep()
    record_jobs(compose_jobs(sweep, overrides_of(0, 1), 0), sweep.directory)
    jobs = compose_jobs(sweep, overrides_of(1, *range(5, 14), 0), 0)
    assert [job.directory.name for job in jobs][:3] == ["1_seed_1", "02_seed_5", "03_seed_6"]
    assert jobs[-1].directory.name == "0_seed_0"


def test_a_job_is_small_and_runs_with_the_whole_config() -> None:
    sweep = make_sweep("sweep=lr")
    lists = [["experiment=points", "sweep=lr", f"seed={seed}", "trainer.devices=2"] for seed in range(40)]
    jobs = compose_jobs(sweep, lists, 0)
    assert len(pickle.dumps(jobs)) < 40 * 1000
    assert (jobs[3].config.trainer.devices, jobs[3].processes, jobs[3].log_file.name) == (2, 1, "train.log")
    jobs[3].checkpoint = Path("last.ckpt")
    config = job_config(sweep, jobs[3])
    assert (config.seed, config.zoom, config.ckpt_path, config.hydra.job.num) == (3, 0, "last.ckpt", 3)
    assert (config.hydra.mode, config.hydra.run.dir) == (RunMode.RUN, str(jobs[3].directory))
    assert config.hydra.overrides.task == jobs[3].overrides == [lists[3][0], *lists[3][2:]]


def test_jobs_with_the_same_config_are_one_job_even_if_they_were_typed_otherwise() -> None:
    lists = [["optimizer.lr=0.1"], ["optimizer.lr=1e-1"], ["+optimizer.eps=1"], ["optimizer.lr=0.2"]]
    jobs = compose_jobs(make_sweep(), [["experiment=points", *overrides] for overrides in lists], 0)
    assert [job.number for job in jobs] == [0, 0, 1, 2]
