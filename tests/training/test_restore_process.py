"""A run leaves its Python process as it found it, and a second run in it is the same."""

import gc
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from backlit.errors import ConfigError
from backlit.runs.files import new_directory
from backlit.train import main
from backlit.training.restore_process import leave_process_as_found
from backlit.training.train import train
from tests.helpers.commands import QUICK, compose_config
from tests.helpers.runs import assert_same_run

LAUNCHER: Any = importlib.import_module("lightning.pytorch.strategies.launchers.subprocess_script")


def process() -> dict[str, Any]:
    """Return what a run might change of its process."""
    loggers = {name: logging.getLogger(name) for name in ("", "lightning.pytorch", "lightning.fabric", "matplotlib")}
    return {
        "environment": dict(os.environ),
        "arguments": list(sys.argv),
        "directory": Path.cwd(),
        "hooks": (threading.excepthook, sys.excepthook, logging.raiseExceptions, warnings.showwarning),
        "filters": list(warnings.filters),
        "loggers": {name: (one.level, list(one.handlers), one.propagate) for name, one in loggers.items()},
        "observer": LAUNCHER._launch_process_observer,
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)},
        "collector": (gc.isenabled(), gc.get_threshold()),
    }


@pytest.mark.parametrize("more", [[], ["optimizer.lr=1e38", "model.activation=gelu"], ["optimizer.lr=-1"]])
def test_a_run_leaves_the_process_as_it_found_it(more: list[str], tmp_path: Path) -> None:
    config = compose_config(*QUICK, *more)
    before = process()
    run = new_directory(tmp_path / "run")
    if more:
        with pytest.raises((FloatingPointError, ConfigError)):
            train(config, run)
    else:
        train(config, run)
    assert process() == before


def test_a_second_run_in_one_process_is_the_same(tmp_path: Path) -> None:
    first, second = (new_directory(tmp_path / name) for name in ("first", "second"))
    config = compose_config(*QUICK, "model.dropout=0.1")
    assert train(config, first) == train(config, second)
    assert_same_run(second, first)


@pytest.mark.slow
def test_a_command_leaves_the_process_as_it_found_it_and_a_second_one_is_the_same(tmp_path: Path) -> None:
    before = process()
    for name, more in (("first", []), ("other", ["trainer.precision=64-true"]), ("second", [])):
        sys.argv[1:] = [*QUICK, *more, f"hydra.run.dir={tmp_path / name}"]
        typed = list(sys.argv)
        main()
        assert process() == before | {"arguments": typed}
    sys.argv[:] = before["arguments"]
    assert_same_run(tmp_path / "second", tmp_path / "first")


def test_what_is_set_within_the_context_is_restored() -> None:
    before = process()
    with leave_process_as_found():
        os.environ["PL_GLOBAL_SEED"] = "1"
        del os.environ["PATH"]
        sys.argv[1:] = ["x"]
        threading.excepthook = print
        logging.raiseExceptions = False
        gc.set_threshold(1, 2, 3)
        assert process() != before
    assert process() == before
