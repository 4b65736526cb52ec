"""The Hydra program that all commands share, with its exit codes."""

import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from backlit import __version__
from backlit.cli.arguments import read_arguments
from backlit.cli.invocation import Invocation
from backlit.cli.known_keys import KnownKeys, check_own_options
from backlit.cli.messages import explain, print_errors
from backlit.cli.plan import Plan
from backlit.cli.unlisted_keys import add_unlisted
from backlit.config.conf import CONFIG_DIR
from backlit.errors import ConfigError, JobError, JobsLeftError, RankError, RerunDiffersError
from backlit.runs.files import describe_write_error, find_disk_error, is_disk_error
from backlit.runs.run import clear_run
from backlit.runs.sweep_record import read_sweep
from backlit.streams import dropping_streams
from backlit.text import shell_path
from backlit.training.lightning_internals import share_config_store
from backlit.training.restore_process import leave_hydra_as_found, leave_process_as_found
from backlit.training.signals import note_signals, sigterm_ends_in_order

Task = Callable[[DictConfig], Any]
Check = Callable[[DictConfig], list[str]]

# A command changes `sys.argv`, the environment and the log of its process: threads that call one take turns.
_ONE_AT_A_TIME = threading.RLock()


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
    with _prepared_process(invocation):
        try:
            code = _run_hydra(invocation, task, config_name, plan, check)
        except SystemExit as error:
            code = error.code
            raise
        finally:
            closing_code = _close(invocation, is_rejected=code == 2)
    if code or closing_code:
        sys.exit(code or closing_code)


def call_command(
    task: Task, config_name: str, arguments: Sequence[str], *, plan: Callable[[list[str]], Plan] = Plan
) -> None:
    """Run `task` as `run_command` does, from Python: errors are raised, and the process is left as it was found.

    Args:
        task: Is called with the config.
        config_name: The config at the top.
        arguments: What would be typed.
        plan: Returns what the arguments come to.

    Raises:
        ConfigError: If the arguments are wrong, and nothing was started.
        KeyboardInterrupt: If the user has interrupted the run, which is recorded.
        SystemExit: If SIGTERM ends the run.
        Exception: What the task has raised.
    """
    invocation = Invocation(is_called=True)
    with _ONE_AT_A_TIME, leave_hydra_as_found(), _prepared_process(invocation), _as_program(config_name, arguments):
        try:
            _plan_and_run(invocation, task, config_name, plan, None)
        except SystemExit as end:
            if isinstance(invocation.error, ConfigError):
                raise ConfigError(invocation.error.problems) from None
            if invocation.error is not None:
                raise invocation.error from None
            if invocation.interrupt_code(end) == 128 + signal.SIGINT:
                raise KeyboardInterrupt from None
            raise
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError, RuntimeError) as error:
            if invocation.has_started:
                raise
            problems = error.problems if isinstance(error, ConfigError) else explain(error, config_name).splitlines()
            raise ConfigError(problems) from None  # without Hydra's traceback, which says nothing to a user
        finally:
            _close(invocation, is_rejected=False)


@contextlib.contextmanager
def _as_program(config_name: str, arguments: Sequence[str]) -> Iterator[None]:
    """Let this process look as if the command had been typed: so Lightning starts the other processes of a run."""
    main = sys.modules["__main__"]
    module, main.__spec__ = main.__spec__, None  # of `python -m ...`, which Lightning would start again
    sys.argv[:] = [str(Path(sys.executable).parent / f"backlit-{config_name}"), *arguments]
    try:
        yield
    finally:
        main.__spec__ = module


@contextlib.contextmanager
def _prepared_process(invocation: Invocation) -> Iterator[None]:
    """Prepare this process for a command within this context, and restore it at the end."""
    with (
        dropping_streams(),
        sigterm_ends_in_order(),
        note_signals() as invocation.signals,
        leave_process_as_found(),
        share_config_store(),
        invocation.as_current(),
    ):
        # Importing torch and Lightning makes a million objects that stay; looking for garbage among them all the while
        # costs a second of four. `_run_task` goes back to normal.
        gc.set_threshold(1_000_000, 10, 10)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        # The first import on a machine lists its fonts, and would log it.
        logging.getLogger("matplotlib").setLevel(logging.WARNING)
        yield


def _plan_and_run(
    invocation: Invocation,
    task: Task,
    config_name: str,
    plan: Callable[[list[str]], Plan],
    check: Check | None,
) -> None:
    """Plan what ``sys.argv`` says, and run the task by Hydra."""

    @functools.wraps(task)
    def run_task(cfg: DictConfig) -> Any:
        return _run_task(invocation, task, cfg, config_name)

    if check is not None:
        run_task.check = check  # type: ignore[attr-defined]
    check_own_options()
    try:
        invocation.plan = plan(read_arguments(sys.argv[1:], config_name))
    except RankError as error:
        raise ConfigError([str(error)]) from None
    invocation.sweep_dir = invocation.plan.sweep
    # Hydra reads this, and so do the processes that Lightning starts: they run the same command.
    sys.argv[1:] = invocation.plan.arguments
    program = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(run_task)
    try:
        program()
    except (HydraException, OmegaConfBaseException):
        # To know beforehand which keys the config has would take 0.1 s of every start.
        if not _add_unlisted(invocation, config_name):
            raise
        program()


def _add_unlisted(invocation: Invocation, config_name: str) -> bool:
    """Add what YAML files leave out to a config that could not be composed; return whether there is anything."""
    plan = invocation.plan
    has_made = invocation.has_started or invocation.run_dir is not None or invocation.sweep_dir is not None
    if has_made or plan.is_recorded:
        return False
    # The user chooses what is trained; evaluated may be a stranger's run.
    arguments = add_unlisted(plan.arguments, KnownKeys(config_name, is_recorded=config_name != "train"))
    if arguments == plan.arguments:
        return False
    invocation.plan = replace(plan, arguments=arguments)
    sys.argv[1:] = arguments
    return True


def _run_hydra(
    invocation: Invocation, task: Task, config_name: str, plan: Callable[[list[str]], Plan], check: Check | None
) -> int:
    """Run the task by Hydra and return the exit code."""
    try:
        if "--version" in sys.argv[1:]:
            print(f"backlit {__version__}")
            return 0
        _plan_and_run(invocation, task, config_name, plan, check)
    except Exception as error:
        return _explain_end(invocation, error, config_name)
    except KeyboardInterrupt:
        return 130
    return 0


def _explain_end(invocation: Invocation, error: Exception, config_name: str) -> int:
    """Return the exit code of an exception that Hydra has let through, and print its reason where nothing else does.

    Raises:
        Exception: The same one, if it is a fault of the program.
    """
    if (code := invocation.interrupt_code(error)) is not None:
        return code
    if isinstance(error, JobsLeftError):
        invocation.has_started, invocation.sweep_dir = True, None  # nothing to undo, nothing to summarize yet
        return error.code
    if isinstance(error, ConfigError | HydraException | OmegaConfBaseException | YAMLError):
        is_recorded = config_name != "train" or invocation.plan.is_recorded
        return print_errors(error, config_name, is_recorded=is_recorded)
    if isinstance(error, FloatingPointError | JobError | RerunDiffersError | RankError):
        return 1  # the log, or the summary of a sweep, gives the reason
    if (disk_error := find_disk_error(error)) is not None:
        return _report_disk_error(invocation, disk_error)
    if not isinstance(error, ValueError | RuntimeError):
        raise error
    if invocation.has_started or (invocation.sweep_dir is not None and any(invocation.sweep_dir.glob("*/run.json"))):
        raise error
    return print_errors(error, config_name)  # Hydra's, for some malformed overrides


def _run_task(invocation: Invocation, task: Task, cfg: DictConfig, config_name: str) -> Any:
    """Run the task in the process that Hydra has prepared for it, or in a job of a sweep."""
    if (code := invocation.interrupt_code()) is not None:
        sys.exit(code)  # whatever has caught what the signal has raised
    invocation.has_started = True
    # The imports left a million objects that never die; the collector need not look at them again (0.2 s). Those of
    # whoever has called this from Python may die.
    if not invocation.is_called:
        gc.freeze()
    gc.set_threshold(700, 10, 10)
    try:
        return task(cfg)
    except Exception as error:
        if (code := invocation.interrupt_code(error)) is not None:
            sys.exit(code)  # Hydra would print the error
        is_reported = isinstance(error, ConfigError | FloatingPointError | RerunDiffersError | RankError)
        if not (invocation.is_called or is_reported or is_disk_error(error)):
            raise
        # Data that only now turn out to be wrong: the run is as good as never started, unless it has saved something.
        run_dir = invocation.run_dir
        if isinstance(error, ConfigError) and run_dir is not None and not any(run_dir.glob("checkpoints/*")):
            invocation.undo.callback(clear_run, run_dir)
            invocation.has_started = False
        if invocation.is_called:
            invocation.error = error
            sys.exit(1)
        if isinstance(error, OSError):
            invocation.has_started = (Path(HydraConfig.get().runtime.output_dir) / "run.json").exists()
            sys.exit(_report_disk_error(invocation, error))
        sys.exit(print_errors(error, config_name) if isinstance(error, ConfigError) else 1)


def _report_disk_error(invocation: Invocation, error: OSError) -> int:
    """Print in one line that a disk is full, read-only or broken, and return the exit code."""
    if not error.filename and invocation.sweep_dir is not None:  # of multirun.yaml, of a search's journal
        error.filename = str(invocation.sweep_dir)
    print(f"error: {describe_write_error(error)}", file=sys.stderr)
    sweep_dir = invocation.sweep_dir
    has_jobs = sweep_dir is not None and any(sweep_dir.glob("*/"))
    return 1 if invocation.has_started or has_jobs else 2


def _close(invocation: Invocation, *, is_rejected: bool) -> int:
    """Undo a command that has started nothing, or summarize a sweep; return the exit code that this comes to."""
    try:
        return 0 if _undo_or_summarize(invocation, is_rejected=is_rejected) else 1
    except (KeyboardInterrupt, Exception) as error:
        if (code := invocation.interrupt_code(error)) is None:
            raise
        if invocation.sweep_dir is not None:
            command = f"backlit-report {shell_path(invocation.sweep_dir)}"
            print(f"interrupted; to summarize the sweep: {command}", file=sys.stderr)
        return code
    finally:
        invocation.unlock()


def _undo_or_summarize(invocation: Invocation, *, is_rejected: bool) -> bool:
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
