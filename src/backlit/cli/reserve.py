"""The checks of a config, and the choice of a directory that no other run has, before anything is written."""

import contextlib
import os
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
from backlit.cli.messages import OTHER_LAUNCHER, print_errors
from backlit.config.top_level import TRAIN
from backlit.distributed.environment import is_lightning_child, launcher_environment
from backlit.distributed.rendezvous import share
from backlit.errors import ConfigError, RankError
from backlit.runs.config_files import NAMES, write_config
from backlit.runs.copy import copy_run
from backlit.runs.files import (
    TEMPORARY,
    describe_write_error,
    make_directory,
    new_directory,
    remove_empty_directories,
    write_json,
)
from backlit.runs.record import now
from backlit.runs.run import clear_run
from backlit.runs.sweep_record import read_sweep
from backlit.sweeps.job import JOB_DIRECTORY
from backlit.text import path_override, quote_value, shell_word

if TYPE_CHECKING:
    from backlit.training.build import RunParts


# What a directory has that a run or a sweep has used already.
_TAKEN_BY = {"run": ("run.json",), "sweep": ("*/run.json", "sweep.json", "optuna.journal", "multirun.yaml")}
# What a command writes before its run or its first job starts. A rejected command removes it; one that is killed leaves
# it, with its lock, and the next one with this directory writes it anew.
_WRITTEN_FIRST = {
    "run": [*(f".hydra/{name}.yaml" for name in NAMES), ".hydra", "train.log", "uncommitted.diff"],
    "sweep": ["sweep.json", "multirun.yaml", "optuna.journal", "optuna.journal.lock"],
}
_LOCK = ".lock"


@contextlib.contextmanager
def _exit_on_error(*, prints: bool = True) -> Iterator[None]:
    """End the process if something is raised: Hydra would turn it into a warning and run the task, unchecked.

    Args:
        prints: Print the reason; one of several processes is enough for that.
    """
    invocation = Invocation.current()
    try:
        yield
    except Exception as error:
        if (code := invocation.interrupt_code(error)) is not None:
            sys.exit(code)
        invocation.error = ConfigError([describe_write_error(error)]) if isinstance(error, OSError) else error
        if not isinstance(invocation.error, ConfigError | RankError):
            if not invocation.is_called:
                traceback.print_exc()
            sys.exit(1)
        sys.exit(print_errors(invocation.error) if prints and not invocation.is_called else 2)


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
        if is_lightning_child() or rank or JOB_DIRECTORY in os.environ:
            with read_write(config):
                # The first process prints; what a job prints is in the same file.
                config.hydra.job_logging.root.handlers = ["file"]
        if is_lightning_child():
            return
        invocation = Invocation.current()
        starts_over = invocation.plan.run is not None and invocation.plan.checkpoint is None
        if config.zoom:
            with _exit_on_error():
                raise ConfigError([f"zoom must be 0 for a single run, got {config.zoom}; of a sweep: add -m"])
        with _exit_on_error(prints=environment is None or environment.local_rank() == 0):
            if problem := find_problem("process_timeout", config.process_timeout, TRAIN["process_timeout"]):
                raise ConfigError([problem])  # it is needed before the config is checked
            chosen, store = share(
                "directory",
                lambda: _shared_path(_reserve_run(config)),
                config.process_timeout,
                store=invocation.plan.store,
            )
            directory = Path(chosen)
            invocation.kept.append(store)
            invocation.parts = _build(config, directory)
            if invocation.plan.run is not None and not rank:
                invocation.lock(directory)
                if starts_over:
                    clear_run(directory)
            # What the checkpoint holds is needed until training has loaded it, and not longer.
            invocation.plan = replace(invocation.plan, checkpoint=None)
        if rank:
            directory.mkdir(parents=True, exist_ok=True)  # on another machine it may not exist
            with read_write(config):
                config.hydra.run.dir = str(directory)
                # As Lightning names the log of a process that it starts.
                config.hydra.job.name += f"_ddp_process_{rank}"

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the config of a run, or of a sweep's job, into ``.hydra``: whole, which Hydra's own files are not.

        Raises:
            SystemExit: With code 2, if it cannot be written.
        """
        with _exit_on_error():
            environment = launcher_environment()
            if is_lightning_child() or (environment is not None and environment.global_rank()):
                return
            parts = Invocation.current().parts
            if parts is not None and parts.is_extension:
                return  # that of the completed run is valid until it has completed again
            task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            whole = (task, OmegaConf.masked_copy(config, ["hydra"]), config.hydra.overrides.task)
            write_config(Path(config.hydra.runtime.output_dir), dict(zip(NAMES, whole, strict=True)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose a sweep directory that nobody else has, or the one of the resumed sweep; begin its record.

        Raises:
            SystemExit: With code 2; Hydra turns any other exception of a callback into a warning.
        """
        invocation = Invocation.current()
        with _exit_on_error():
            if invocation.is_called:
                raise ConfigError(["a sweep is started by a command: backlit-train -m ...; load_sweep opens it"])
            if launcher_environment() is not None:
                raise ConfigError(["-m must not run under torchrun or srun: start a sweep once; it starts its jobs"])
            if not str(config.hydra.launcher._target_).startswith("hydra_plugins.backlit_launcher."):
                raise ConfigError(
                    [f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}: {OTHER_LAUNCHER}"]
                )
            if invocation.sweep_dir is None:
                invocation.sweep_dir = _reserve(config, "sweep")
                content = {"started": now(), "arguments": sys.argv[1:]}
                write_json(invocation.sweep_dir / "sweep.json", content)
            else:
                invocation.lock(invocation.sweep_dir)
            _name_jobs(config, invocation.sweep_dir)
            with read_write(config):
                config.hydra.sweep.dir = str(invocation.sweep_dir)


def _shared_path(directory: Path) -> str:
    """Return a directory as other processes name it; they may work in another one."""
    return str(directory if launcher_environment() is None else directory.resolve())


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
        directory = Invocation.current().run_dir = _reserve(config, "run")
        return directory
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
    if any("\ud800" <= character <= "\udfff" for character in str(wanted)):  # what Python makes of other bytes
        raise ConfigError([f"{key} must be a path in UTF-8, which TensorBoard needs, got {wanted}"])
    if "${" in str(wanted):  # Hydra would resolve it
        raise ConfigError([f"{key} must be a path without ${{, got {wanted}"])
    invocation, made = Invocation.current(), list[Path]()
    try:
        if is_chosen and os.environ.get(JOB_DIRECTORY) == str(wanted):
            return wanted
        if is_chosen:
            directory = wanted
            _reject_used(wanted, kind)
            make_directory(wanted, made)
        else:
            directory = new_directory(wanted, made)
        invocation.undo.callback(remove_empty_directories, made)
        if is_chosen or kind == "sweep":
            invocation.lock(directory)
            _reject_used(wanted if is_chosen else directory, kind)  # maybe another command had it until now
        written = [directory / name for name in (*_WRITTEN_FIRST[kind], _LOCK)]
        invocation.undo.callback(_remove_written, written)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise ConfigError([f"{key} must be a directory that can be written, got {wanted}: {error.strerror}"]) from None
    with read_write(config):
        config.hydra[kind].dir = str(directory)
    return directory


def _reject_used(directory: Path, kind: str) -> None:
    """Raise `ConfigError` if a directory has anything but what a command leaves that was killed when it started."""
    key, names = f"hydra.{kind}.dir", sorted(os.listdir(directory)) if directory.is_dir() else []
    names = [name for name in names if not TEMPORARY.fullmatch(name)]
    if _LOCK in names and {*names} <= {*_WRITTEN_FIRST[kind], _LOCK} and not (kind == "sweep" and _has_jobs(directory)):
        return
    if any(path for pattern in _TAKEN_BY[kind] for path in directory.glob(pattern)):
        hint = f"; to resume it: -m {shell_word(path_override('resume', directory))}" if kind == "sweep" else ""
        raise ConfigError([f"{key} must be a directory without a {kind}, got {directory}, which has one{hint}"])
    if names:
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ConfigError([f"{key} must be a new or empty directory, got {directory}, which has {listed}"])


def _has_jobs(sweep_dir: Path) -> bool:
    try:
        return bool(read_sweep(sweep_dir)["jobs"])
    except ValueError:  # somebody else's sweep.json
        return True


def _remove_written(paths: list[Path]) -> None:
    """Remove files, and directories that are empty by then; a directory's files come before it."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


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
