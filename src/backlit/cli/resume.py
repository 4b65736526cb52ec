"""``resume=`` and ``rerun=``: the command that a run directory has recorded, changed by what is typed now."""

import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backlit.cli.recorded_arguments import merge_arguments, repeatable_arguments, split_flags
from backlit.errors import ConfigError
from backlit.runs.files import new_directory, remove_directories
from backlit.runs.find import find_latest_run
from backlit.runs.run import RUN_FILES, Run
from backlit.runs.sweep_record import read_sweep
from backlit.text import quote_value, shell_path

if TYPE_CHECKING:
    from backlit.runs.checkpoint import Checkpoint


@dataclass(frozen=True)
class Plan:
    """What the arguments of a command come to.

    Args:
        arguments: Those for Hydra.
        sweep: The sweep to resume.
        run: The run to resume.
        checkpoint: Where that run resumes; None if it has none yet and starts from the beginning.
        copy_of: The run's directory, if the run is resumed in a copy of it.
        rerun_of: The run to repeat.
    """

    arguments: list[str]
    sweep: Path | None = None
    run: Path | None = None
    checkpoint: "Checkpoint | None" = None
    copy_of: Path | None = None
    rerun_of: Path | None = None

    @property
    def is_recorded(self) -> bool:
        """Return whether the command comes from a run directory rather than from the user."""
        return any((self.sweep, self.run, self.rerun_of))


def plan_command(arguments: list[str]) -> Plan:
    """Return what arguments come to: those recorded by what ``resume=`` or ``rerun=`` names, changed by the others.

    Raises:
        ConfigError: If there is no such run or sweep, or if it cannot be resumed or repeated.
    """
    resumed = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    repeated = [argument.removeprefix("rerun=") for argument in arguments if argument.startswith("rerun=")]
    given = [argument for argument in arguments if not argument.startswith(("resume=", "rerun="))]
    if resumed and repeated:
        raise ConfigError(["resume= and rerun= exclude each other: give one of them"])
    if repeated:
        return plan_rerun(repeated[-1], given)
    if not resumed:
        return Plan(arguments)
    if {"-m", "--multirun"} & set(given):
        return plan_sweep_resume(resumed[-1], given)
    return plan_resume(resumed[-1], given)


# What may change when a run is resumed; all else is in its checkpoint, or has shaped what it has learned.
_CHANGEABLE_ON_RESUME = re.compile(
    r"(hydra|trainer|checkpoint|callbacks|logger)[./=]|(test|tags|packages|process_timeout|lean_loop)="
    r"|data\.(num_workers|pin_memory|device_resident|eval_batch_size|data_dir)="
)


def plan_resume(wanted: str, given: list[str]) -> Plan:
    """Return the plan that resumes a run: its own arguments, the given ones, and its last checkpoint.

    Raises:
        ConfigError: If there is no such run, or if nothing is left for it to do.
    """
    run, recorded = _find_run("resume", wanted)
    source = run.directory
    _reject_symlinks(source)
    _check_resumable(run, recorded, given)
    merged = merge_arguments(repeatable_arguments(recorded, given), given)
    from backlit.runs.checkpoint import Checkpoint, find_last_checkpoint  # imports torch

    try:
        checkpoint = find_last_checkpoint(source)
    except ValueError as error:
        raise ConfigError([f"resume={wanted}: {error}"]) from None
    others = sorted(path.name for path in source.glob("checkpoints/*.ckpt"))
    if checkpoint is None and (others or run.status == "completed"):
        there = ", ".join(others) or "none"
        raise ConfigError(
            [f"resume={wanted}: there must be a last.ckpt to resume from, but its checkpoints are: {there}"]
        )
    directory, copy_of = source, None
    elsewhere = [a.partition("=")[2].strip("'\"") for a in given if a.startswith("hydra.run.dir=")]
    if elsewhere and Path(elsewhere[-1]).resolve() != source.resolve():
        directory, copy_of = Path(elsewhere[-1]), source
        _check_copy_target(source, directory)
    kept = [argument for argument in merged if not argument.startswith(("hydra.run.dir=", "resume="))]
    if checkpoint is not None:
        checkpoint = Checkpoint(directory / "checkpoints" / checkpoint.path.name, checkpoint.content)
        kept = [a for a in kept if not a.startswith("ckpt_path=")]
        kept.append(f"ckpt_path={quote_value(str(checkpoint.path))}")
    arguments = [*kept, f"hydra.run.dir={quote_value(str(directory))}"]
    return Plan(arguments, run=directory, checkpoint=checkpoint, copy_of=copy_of)


def _check_resumable(run: Run, recorded: list[str], given: list[str]) -> None:
    """Raise `ConfigError` if a run still runs, is completed, or may not be changed as it is asked to."""
    shown = shell_path(run.directory)
    for override in split_flags(given)[1]:
        if not _CHANGEABLE_ON_RESUME.match(override.lstrip("+~")):
            instead = f"a run of its own from these weights: ckpt_path={shown}/checkpoints/last.ckpt"
            raise ConfigError([f"{override.partition('=')[0]} must not change when a run is resumed; {instead}"])
    if run.status == "running":
        where = f"process {run.record.get('pid')} on {run.record.get('host')}"
        raise ConfigError([f"resume must be a run that has ended, got {shown}: {where} runs it"])
    if run.status == "completed" and not given:
        limit = "max_steps" if any(a.startswith("trainer.max_steps=") for a in recorded) else "max_epochs"
        longer = f"backlit-train resume={shown} trainer.{limit}=..."
        raise ConfigError([f"resume must be a run that is not completed, got {shown}; to train it longer: {longer}"])


def _check_copy_target(source: Path, target: Path) -> None:
    """Raise `ConfigError` if a run cannot be copied to `target`."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError([f"hydra.run.dir must be an empty or new directory to resume the run in, got {target}"])
    if target.resolve().is_relative_to(source.resolve()):
        raise ConfigError([f"hydra.run.dir must be outside of the run that is resumed, {source}, got {target}"])


def copy_run(source: Path, target: Path, undo: ExitStack) -> None:
    """Copy a run's directory, in order to resume the run there; the run itself stays as it is.

    Args:
        source: The run directory.
        target: An empty or new directory.
        undo: Gets a callback that removes the copy.

    Raises:
        ConfigError: If it cannot be copied.
    """
    made: list[Path] = []
    try:
        if target.is_dir():
            made += [target / path.name for path in source.iterdir()]
            undo.callback(_remove_all, made)
        else:
            new_directory(target, made)
            undo.callback(remove_directories, made)
        shutil.copytree(source, target, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        reason = str(error.args[0][0][2]) if isinstance(error, shutil.Error) else error.strerror
        reason = "No space left on device" if "No space left" in str(reason) else reason
        raise ConfigError([f"{source} cannot be copied to {target}: {reason}"]) from None


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def plan_rerun(wanted: str, given: list[str]) -> Plan:
    """Return the plan that trains a run again, from its beginning, in a directory of its own.

    Raises:
        ConfigError: If there is no such run, or nothing to compare with.
    """
    if {"-m", "--multirun"} & set(given):
        raise ConfigError(["rerun= must be without -m: it repeats one run; to repeat a sweep, type its command"])
    run, recorded = _find_run("rerun", wanted)
    from backlit.runs.compare import check_comparable

    try:
        check_comparable(run.directory)
    except ValueError as error:
        raise ConfigError([f"rerun={wanted}: {error}"]) from None
    own = f"{run.directory.resolve()}{os.sep}"
    kept = []
    for argument in repeatable_arguments(recorded, given):
        key, _, value = argument.partition("=")
        # What a resumed run was started with: its directory and its own checkpoint.
        is_own_checkpoint = key == "ckpt_path" and str(Path(value.strip("'")).resolve()).startswith(own)
        if key != "hydra.run.dir" and not is_own_checkpoint:
            kept.append(argument)
    return Plan(merge_arguments(kept, given), rerun_of=run.directory)


def plan_sweep_resume(wanted: str, given: list[str]) -> Plan:
    """Return the plan that resumes a sweep: its own arguments, changed by the given ones.

    Raises:
        ConfigError: If there is no such sweep, or if its jobs are unknown.
    """
    directory, recorded = _find_sweep(wanted, given)
    jobs = read_sweep(directory)["jobs"]
    if not jobs:
        why = "another launcher ran it, or it was stopped before its first job"
        raise ConfigError([f"resume must be a sweep whose jobs are known, got {directory}: {why}"])
    kept = repeatable_arguments(recorded, given)
    _reject_symlinks(directory)
    for job in jobs:
        repeatable_arguments(job["overrides"], given)
    changes = [argument for argument in given if argument not in ("-m", "--multirun")]
    return Plan(merge_arguments(kept, changes), sweep=directory)


def _reject_symlinks(directory: Path) -> None:
    """Raise `ConfigError` if a run directory has a symbolic link, through which this process would write elsewhere.

    Also if it has a pipe or a device, for which this process might wait forever, or no file where a run writes one.
    """
    for path in directory.rglob("*"):
        if path.is_symlink():
            raise ConfigError([f"resume must be a directory without symbolic links, got {path}, which is one"])
        is_written = path.parent.name == ".hydra" or path.name in RUN_FILES
        if not path.is_file() and (is_written or not path.is_dir()):
            raise ConfigError([f"resume must be a directory of files, got {path}, which is no file"])


def _find_run(key: str, wanted: str) -> tuple[Run, list[str]]:
    """Return the run that ``key=wanted`` names, and its command's arguments.

    Raises:
        ConfigError: If there is none, or none that a command has started.
    """
    try:
        directory = find_latest_run(Path("outputs"), with_checkpoint=False) if wanted == "latest" else Path(wanted)
        run = Run.read(directory)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError([f"{key}={wanted}: {error}"]) from None
    if run is None:
        sweep = f"; to resume the sweep: -m resume={wanted}" if (directory / "sweep.json").exists() else ""
        there = "has no run.json" if directory.is_dir() else "does not exist"
        raise ConfigError([f"{key} must be a run directory or 'latest', got {wanted}, which {there}{sweep}"])
    arguments = run.record.get("arguments")
    if not isinstance(arguments, list):
        why = "which has no arguments in its run.json (it was trained from Python, or is older)"
        raise ConfigError([f"{key} must be a run that backlit-train has started, got {wanted}, {why}"])
    return run, [str(argument) for argument in arguments]


def _find_sweep(wanted: str, given: list[str]) -> tuple[Path, list[str]]:
    """Return a sweep's directory and its command's arguments.

    ``latest`` is the latest of the same experiment, where one is given.
    """
    if wanted == "latest":
        found = sorted(Path("outputs").glob("*/sweeps/*/sweep.json"), key=lambda path: path.stat().st_mtime)
        experiment = {argument for argument in given if argument.startswith("experiment=")}
        for path in reversed(found):
            arguments = _read_arguments(path.parent)
            if experiment <= set(arguments):
                return path.parent, arguments
        of = f" of {experiment.pop()}" if experiment else ""
        raise ConfigError([f"resume=latest: there is no sweep{of} in {Path('outputs').resolve()}"])
    directory = Path(wanted)
    if not (directory / "sweep.json").is_file():
        there = "has no sweep.json" if directory.is_dir() else "does not exist"
        raise ConfigError([f"resume must be the directory of a sweep or 'latest', got {wanted}, which {there}"])
    return directory, _read_arguments(directory)


def _read_arguments(sweep_dir: Path) -> list[str]:
    try:
        arguments: list[str] = read_sweep(sweep_dir)["arguments"]
    except (ValueError, KeyError) as error:
        raise ConfigError([f"resume must be a sweep whose sweep.json can be read, got {sweep_dir}: {error}"]) from None
    return arguments
