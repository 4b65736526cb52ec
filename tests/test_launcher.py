"""The launcher among Hydra's: its own test suites for launchers."""

from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite

from hydra_plugins.backlit_launcher import BacklitLauncher

# Hydra's own test programs ask for the behaviour of an old version.
pytestmark = pytest.mark.filterwarnings("ignore:\\s*Future Hydra versions will no longer change working directory")


def test_hydra_finds_it() -> None:
    # Hydra imports plugins in its own way: the class is another object.
    assert "BacklitLauncher" in [found.__name__ for found in Plugins.instance().discover(Launcher)]


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("backlit", []), ("backlit", ["hydra.launcher.n_jobs=2"])], ids=["one", "two"]
)
class TestBacklitLauncher(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("backlit", ["hydra.sweeper.max_batch_size=2", "hydra.launcher.n_jobs=-1"])]
)
class TestBacklitLauncherInBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=backlit"]), ({}, ["-m", "hydra/launcher=backlit", "hydra.launcher.n_jobs=2"])],
)
class TestBacklitLauncherIntegration(IntegrationTestSuite):
    pass


def test_settings() -> None:
    settings: dict[str, Any] = {"n_jobs": 3, "gpus_per_job": 2}
    launcher = BacklitLauncher(**settings)
    assert (launcher.n_jobs, launcher.gpus_per_job) == (3, 2)
