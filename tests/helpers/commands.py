"""Commands: short command lines, configs composed from them, and running them in the test's own process."""

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from backlit.config.conf import CONFIG_DIR
from backlit.training.lightning_internals import share_config_store

# Two epochs of 400 optimizer steps: less than a second.
QUICK = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "trainer.max_epochs=2", "callbacks=none"]


def compose_config(*overrides: str, config_name: str = "train") -> DictConfig:
    """Return the config that a command line composes to."""
    GlobalHydra.instance().clear()
    with share_config_store(), initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(config_name, list(overrides))


@dataclass(frozen=True)
class Ended:
    """How a command ended that ran in this process.

    Args:
        returncode: Its exit code.
        stdout: What it printed.
        stderr: What it reported.
    """

    returncode: int
    stdout: str
    stderr: str


def call_in_process(*command: str) -> Ended:
    """Run a command of backlit in this process: no interpreter starts, no import is repeated."""
    main = importlib.import_module(command[0].replace("-", ".")).main
    code: object = 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as reported,
        pytest.MonkeyPatch.context() as patch,
        hydra_as_found(),
    ):
        patch.setattr(sys, "argv", list(command))
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
    assert isinstance(code, int), code
    return Ended(code, printed.getvalue(), reported.getvalue())


@contextlib.contextmanager
def hydra_as_found() -> Iterator[None]:
    """Restore what a Hydra program sets for the life of its process: its config."""
    GlobalHydra.instance().clear()
    config = HydraConfig.instance().cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = config
        GlobalHydra.instance().clear()
