"""backlit's launcher passes Hydra's own test suites for launchers."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite
from hydra.test_utils.test_utils import TSweepRunner
from omegaconf import DictConfig

from backlit.errors import ConfigError
from hydra_plugins.backlit_launcher import BacklitLauncher

# Hydra's test programs use the behaviour of an old version.
pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:\\s*Future Hydra versions will no longer change working directory"),
]


def test_hydra_finds_the_launcher() -> None:
    # Hydra imports plugins in its own way: the class is another object.
    assert "BacklitLauncher" in [found.__name__ for found in Plugins.instance().discover(Launcher)]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("backlit", ["hydra.launcher.n_jobs=2"])])
class TestBacklitLauncher(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("backlit", ["hydra.sweeper.max_batch_size=2", "hydra.launcher.n_jobs=-1"])]
)
class TestBacklitLauncherInBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=backlit", "hydra.launcher.n_jobs=2"])],
)
class TestBacklitLauncherIntegration(IntegrationTestSuite):
    pass


def test_the_launcher_keeps_its_settings() -> None:
    settings: dict[str, Any] = {"n_jobs": 3, "gpus_per_job": 2}
    launcher = BacklitLauncher(**settings)
    assert launcher.settings == settings


def test_jobs_get_gpus_and_threads_of_their_own(
    hydra_sweep_runner: TSweepRunner,
    tmpdir: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backlit.sweeps.process_engine.available_gpus", lambda: ["4", "5", "7"])
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")

    meeting = multiprocessing.get_context("fork").Barrier(2)

    def task(config: DictConfig) -> Any:
        import torch

        if config.trainer.devices != 2:
            meeting.wait(timeout=60)  # the two run side by side, or this is a BrokenBarrierError
        threads = (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"])
        return os.environ["CUDA_VISIBLE_DEVICES"], threads, os.environ.get("LOCAL_RANK")

    overrides = ["hydra/launcher=backlit", "hydra.launcher.n_jobs=2", "+trainer.accelerator=gpu"]
    arguments = {"calling_file": None, "calling_module": "hydra.test_utils.a_module", "config_path": "configs"}
    sweep = hydra_sweep_runner(
        **arguments,
        config_name="compose",
        overrides=[*overrides, "+trainer.devices=[0],[1],2"],
        task_function=task,
        temp_dir=tmpdir,
    )
    sweep.check = lambda config: []  # type: ignore[attr-defined]
    with sweep:
        assert sweep.returns is not None
        given = [job.return_value for job in sweep.returns[0]]
    assert {given[0][0], given[1][0]} == {"4", "5"}
    assert len(given[2][0].split(",")) == 2
    assert {job[1:] for job in given} == {((2, "2"), None)}
    # The runner has removed its working directory.
    monkeypatch.chdir(another := tmp_path_factory.mktemp("rejected"))
    rejected = hydra_sweep_runner(
        **arguments,
        config_name="compose",
        overrides=[*overrides, "+trainer.devices=1,4"],
        task_function=task,
        temp_dir=another,
    )
    rejected.check = sweep.check
    message = r"trainer.devices must be <= 3 \(the GPUs that a job can have\), got 4"
    with pytest.raises(ConfigError, match=message), rejected:
        pass
