"""The checks of a config, and the choice of a directory that no other run has, before anything is written."""

import contextlib
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from backlit.arguments import find_problem
from backlit.cli.invocation import Invocation
from backlit.cli.messages import print_errors
from backlit.cli.resume import copy_run
from backlit.config.top_level import TRAIN
from backlit.distributed.environment import is_lightning_child, launcher_environment
from backlit.distributed.rendezvous import share_directory
from backlit.errors import ConfigError, RankError
from backlit.runs.files import lock_directory, new_directory, remove_directories, write_json
from backlit.runs.record import now
from backlit.runs.run import clear_run
from backlit.text import quote_value, shell_path

if TYPE_CHECKING:
    from backlit.training.build import RunParts


# What a directory has that a run or a sweep has used already.
_SWEEP_FILES = ("sweep.json", "optuna.db", "multirun.yaml", ".lock")
_TAKEN_BY = {"run": ("run.json",), "sweep": ("*/run.json", *_SWEEP_FILES)}


@contextlib.contextmanager
def _exit_on_error(*, prints: bool = True) -> Iterator[None]:
    """End the process if something is raised: Hydra would turn it into a warning and run the task, unchecked.

    Args:
        prints: Print the reason; one of several processes is enough for that.
    """
    try:
        yield
    except (ConfigError, OSError, RankError) as error:
        sys.exit(print_errors(error) if prints else 2)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


class CheckAndReserve(Callback):
    """Hydra's callback that chooses a run's directory and builds the run, before Hydra writes anything.

    ``on_run_start`` is the one moment at which the config is known and Hydra has not yet made the run directory.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose a directory that nobody else has, the same one in all processes of the run; build and check the run.

        Raises:
            SystemExit: With code 2; Hydra turns any other exception of a callback into a warning.
        """
        with _exit_on_error():
            environment = launcher_environment()
        rank = 0 if environment is None else environment.global_rank()
        if is_lightning_child() or rank:
            with read_write(config):
                config.hydra.job_logging.root.handlers = ["file"]  # the first process prints
        if is_lightning_child():
            return
        invocation = Invocation.current()
        starts_over = invocation.plan.run is not None and invocation.plan.checkpoint is None
        with _exit_on_error(prints=environment is None or environment.local_rank() == 0):
            if problem := find_problem("process_timeout", config.process_timeout, TRAIN["process_timeout"]):
                raise ConfigError([problem])  # it is needed before the config is checked
            directory, store = share_directory(lambda: _reserve_run(config), config.process_timeout)
            invocation.kept.append(store)
            invocation.parts = _build(config, directory)
            if invocation.plan.run is not None and not rank:
                invocation.kept.append(lock_directory(directory))
                if starts_over:
                    clear_run(directory)
            # What the checkpoint holds is needed until training has loaded it, and not longer.
            invocation.plan = replace(invocation.plan, checkpoint=None)
        if rank:
            directory.mkdir(parents=True, exist_ok=True)  # on another machine it may not exist
            with read_write(config):
                config.hydra.run.dir = str(directory)
                config.hydra.output_subdir = None
                # As Lightning names the log of a process that it starts.
                config.hydra.job.name += f"_ddp_process_{rank}"

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose a sweep directory that nobody else has, or the one of the resumed sweep; begin its record.

        Raises:
            SystemExit: With code 2; Hydra turns any other exception of a callback into a warning.
        """
        invocation = Invocation.current()
        with _exit_on_error():
            if launcher_environment() is not None:
                raise ConfigError(["-m must not run under torchrun or srun: start a sweep once; it starts its jobs"])
            if invocation.sweep_dir is None:
                invocation.sweep_dir = _reserve(config, "sweep")
                for name in _SWEEP_FILES:
                    invocation.undo.callback((invocation.sweep_dir / name).unlink, missing_ok=True)
                content = {"started": now(), "arguments": sys.argv[1:]}
                write_json(invocation.sweep_dir / "sweep.json", content)
            _name_jobs(config, invocation.sweep_dir)
            with read_write(config):
                config.hydra.sweep.dir = str(invocation.sweep_dir)
            if "optuna" in config.hydra.sweeper._target_:
                from backlit.sweeps.search import prepare_search

                prepare_search(config, is_resumed=invocation.plan.sweep is not None)


def _build(config: DictConfig, directory: Path) -> "RunParts":
    """Return what the run is made of, with its data prepared.

    Raises:
        ConfigError: With all that is wrong.
    """
    from backlit.training.build import build_run, prepare_data

    plan = Invocation.current().plan
    parts = build_run(config, directory, plan.checkpoint, is_recorded=plan.is_recorded)
    prepare_data(parts)
    return parts


def _reserve_run(config: DictConfig) -> Path:
    """Return the directory of the run: that of the resumed run, or of its copy, or one that nobody else has.

    Raises:
        ConfigError: If it cannot be written.
    """
    plan = Invocation.current().plan
    if plan.run is None:
        return _reserve(config, "run")
    if plan.copy_of is not None:
        copy_run(plan.copy_of, plan.run, Invocation.current().undo)
    return plan.run


def _reserve(config: DictConfig, kind: str) -> Path:
    """Return a new directory for a run or a sweep, and write it into the config.

    Args:
        config: Hydra's part has the wanted directory.
        kind: ``run`` or ``sweep``.

    Raises:
        ConfigError: If the user has chosen one that has a run already, or one that cannot be written.
    """
    key, wanted = f"hydra.{kind}.dir", Path(config.hydra[kind].dir)
    is_chosen = any(override.lstrip("+").startswith(f"{key}=") for override in config.hydra.overrides.hydra)
    if is_chosen and any(path for pattern in _TAKEN_BY[kind] for path in wanted.glob(pattern)):
        hint = f"; to resume it: -m resume={shell_path(wanted)}" if kind == "sweep" else ""
        raise ConfigError([f"{key} must be a directory without a {kind}, got {wanted}, which has one{hint}"])
    made: list[Path] = []
    try:
        directory = wanted if is_chosen and wanted.is_dir() else new_directory(wanted, made)
        Invocation.current().undo.callback(remove_directories, made)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise ConfigError([f"{key} must be a directory that can be written, got {wanted}: {error.strerror}"]) from None
    with read_write(config):
        config.hydra[kind].dir = str(directory)
    return directory


def _name_jobs(config: DictConfig, sweep_dir: Path) -> None:
    """Name the jobs by what is varied; any launcher composes their configs from these overrides."""
    typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    not_varied = [
        override.key_or_group
        for override in OverridesParser.create().parse_overrides(typed)
        if not override.is_sweep_override()
    ]
    names = ",".join(quote_value(name) for name in not_varied)
    with read_write(config):
        config.hydra.overrides.hydra += [
            f"hydra.sweep.dir={quote_value(str(sweep_dir))}",
            f"hydra.job.config.override_dirname.exclude_keys=[{names}]",
        ]
