"""The Hydra program that all commands share, with its exit codes."""

import functools
import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from backlit.cli.invocation import Invocation
from backlit.cli.messages import print_errors
from backlit.cli.resume import Plan
from backlit.config.conf import CONFIG_DIR
from backlit.errors import ConfigError, JobError, RankError, RerunDiffersError
from backlit.runs.files import is_disk_error
from backlit.runs.sweep_record import read_sweep
from backlit.training.lightning_internals import share_config_store
from backlit.training.restore_process import leave_process_as_found

Task = Callable[[DictConfig], Any]
Check = Callable[[DictConfig], list[str]]


def run_command(
    task: Task, config_name: str, *, plan: Callable[[list[str]], Plan] = Plan, check: Check | None = None
) -> None:
    """Run `task` as a Hydra program; report errors in one line each.

    Exit codes: 0 done; 2 the command is wrong and nothing was started; 1 the run failed; 130 and 143 interrupted.

    Args:
        task: Is called with the config.
        config_name: The config at the top.
        plan: Returns what the arguments come to, for a command that can resume what a directory has recorded.
        check: Returns what is wrong with the config of a sweep's job, a line a problem.

    Raises:
        SystemExit: With any code but 0.
    """
    invocation = Invocation()
    code: Any = 1
    with leave_process_as_found(), share_config_store(), invocation.as_current():
        # Importing torch and Lightning makes a million objects that stay; looking for garbage among them all the while
        # costs a second of four. `_run_task` goes back to normal.
        gc.set_threshold(1_000_000, 10, 10)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        # The first import on a machine lists its fonts, and would log it.
        logging.getLogger("matplotlib").setLevel(logging.WARNING)
        try:
            code = _run_hydra(invocation, task, config_name, plan, check)
        except SystemExit as error:
            code = error.code
            raise
        finally:
            all_completed = _close(invocation, is_rejected=code == 2)
    if code or not all_completed:
        sys.exit(code or 1)


def _run_hydra(
    invocation: Invocation, task: Task, config_name: str, plan: Callable[[list[str]], Plan], check: Check | None
) -> int:
    """Run the task by Hydra and return the exit code."""

    @functools.wraps(task)
    def run_task(cfg: DictConfig) -> Any:
        return _run_task(invocation, task, cfg, config_name)

    if check is not None:
        run_task.check = check  # type: ignore[attr-defined]
    try:
        invocation.plan = plan(sys.argv[1:])
        invocation.sweep_dir = invocation.plan.sweep
        # Hydra reads this, and so do the processes that Lightning starts: they run the same command.
        sys.argv[1:] = invocation.plan.arguments
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(run_task)()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        return print_errors(error, config_name)
    except (FloatingPointError, JobError, RerunDiffersError, RankError):
        return 1  # the log, or the summary of a sweep, gives the reason
    except (ValueError, RuntimeError) as error:
        # Hydra's, for some malformed overrides; a launcher's whose own program is missing.
        ended = [] if invocation.sweep_dir is None else list(invocation.sweep_dir.glob("*/run.json"))
        if ended and not any('"status": "completed"' in path.read_text() for path in ended):
            return 1  # Optuna's, which finds no best trial among failures; the summary gives the reasons
        if invocation.has_started or ended:
            raise
        return print_errors(error, config_name)
    except KeyboardInterrupt:
        return 130
    return 0


def _run_task(invocation: Invocation, task: Task, cfg: DictConfig, config_name: str) -> Any:
    """Run the task in the process that Hydra has prepared for it, or in a job of a sweep."""
    invocation.has_started = True
    # The imports left a million objects that never die; the collector need not look at them again (0.2 s).
    gc.freeze()
    gc.set_threshold(700, 10, 10)
    try:
        return task(cfg)
    except (ConfigError, FloatingPointError, RerunDiffersError, OSError, RankError) as error:
        if isinstance(error, OSError) and not is_disk_error(error):
            raise
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # Hydra runs the other jobs and reports the failed ones at the end
        if not isinstance(error, ConfigError):
            sys.exit(1)
        # Data that only now turn out to be wrong: the run is as good as never started, unless it has saved something.
        invocation.has_started = any(Path(HydraConfig.get().runtime.output_dir).glob("checkpoints/*"))
        sys.exit(print_errors(error, config_name))


def _close(invocation: Invocation, *, is_rejected: bool) -> bool:
    """Undo a command that has started nothing, summarize a sweep, and return whether all its jobs are completed."""
    sweep_dir = invocation.sweep_dir
    has_jobs = sweep_dir is not None and (any(sweep_dir.glob("*/")) or bool(read_sweep(sweep_dir)["jobs"]))
    if not (invocation.has_started or has_jobs):
        invocation.undo.close()
    if sweep_dir is None or not has_jobs:
        return True
    if is_rejected:
        return False
    from backlit.sweeps.summary import summarize_sweep

    return summarize_sweep(sweep_dir)
