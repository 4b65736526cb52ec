"""``resume=`` and ``rerun=``: the command that a run directory has recorded, changed by what is typed now."""

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backlit.cli.arguments import read_path
from backlit.cli.invocation import Invocation
from backlit.cli.plan import Plan
from backlit.cli.recorded_arguments import merge_arguments, repeatable_arguments
from backlit.distributed.rendezvous import share
from backlit.errors import ConfigError
from backlit.runs.commands import resume_command, split_flags
from backlit.runs.find import latest_directories
from backlit.runs.run import RUN_FILES, Run, flat_config
from backlit.runs.sweep_record import read_sweep
from backlit.text import path_override, quote_value, shell_path, shell_word


def plan_command(arguments: list[str]) -> Plan:
    """Return what arguments come to: those recorded by what ``resume=`` or ``rerun=`` names, changed by the others.

    Raises:
        ConfigError: If there is no such run or sweep, or if it cannot be resumed or repeated.
    """
    resumed = [read_path(argument.removeprefix("resume=")) for argument in arguments if argument.startswith("resume=")]
    repeated = [read_path(argument.removeprefix("rerun=")) for argument in arguments if argument.startswith("rerun=")]
    given = [argument for argument in arguments if not argument.startswith(("resume=", "rerun="))]
    if resumed and repeated:
        raise ConfigError(["resume= and rerun= exclude each other: give one of them"])
    if not (resumed or repeated):
        return Plan(arguments)
    made: list[Plan] = []

    def choose() -> str:
        made.append(_plan_recorded(resumed, repeated, given))
        return made[0].to_json()

    # What `latest` means, and whether a run has ended, is for one process to say: the others may be later.
    chosen, store = share("plan", choose, PLAN_TIMEOUT_S)
    return replace(made[0] if made else Plan.from_json(chosen), store=store)


def _plan_recorded(resumed: list[str], repeated: list[str], given: list[str]) -> Plan:
    """Return what the last of the values of ``resume=`` or ``rerun=`` comes to, changed by the other arguments."""
    if repeated:
        return plan_rerun(repeated[-1], given)
    if {"-m", "--multirun"} & set(given):
        return plan_sweep_resume(resumed[-1], given)
    return plan_resume(resumed[-1], given)


# Seconds that the other processes of a run wait for the plan of the first, which reads a checkpoint for it.
PLAN_TIMEOUT_S = 300

# What may change when a run is resumed; all else is in its checkpoint, or has shaped what it has learned.
_CHANGEABLE_ON_RESUME = re.compile(
    r"(hydra|trainer|checkpoint|callbacks|logger)[./=]|(test|tags|packages|process_timeout|lean_loop)="
    r"|data\.(num_workers|pin_memory|device_resident|eval_batch_size|data_dir|file|test_file)="
)


def plan_resume(wanted: str, given: list[str]) -> Plan:
    """Return the plan that resumes a run: its own arguments, the given ones, and its last checkpoint.

    Raises:
        ConfigError: If there is no such run, or if nothing is left for it to do.
    """
    run, recorded = _find_run("resume", wanted, lambda found: _is_resumable(found, given))
    source = run.directory
    _reject_symlinks(source)
    _check_not_running(run)
    directory, copy_of = _resume_directory(source, given)
    if copy_of is None:
        Invocation.current().lock(source)
        # Another command may have resumed and completed it until now.
        run, recorded = _find_run("resume", str(source), lambda _: True)
    try:
        flat_config(source)  # a completed run keeps it while it is trained longer, and the commands to print need it
    except ValueError as error:
        raise ConfigError([f"resume={wanted}: {error}; without this file, it is written anew"]) from None
    _check_resumable(run, recorded, given)
    if any((source / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "previous")):
        # What it began with is in its own checkpoint.
        recorded = [argument for argument in recorded if not argument.startswith("ckpt_path=")]
    merged = merge_arguments(repeatable_arguments(recorded, given, directory, recorded_by=source), given)
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
    kept = [argument for argument in merged if not argument.startswith(("hydra.run.dir=", "resume="))]
    if checkpoint is not None:
        checkpoint = Checkpoint(directory / "checkpoints" / checkpoint.path.name, checkpoint.content)
        kept = [a for a in kept if not a.startswith("ckpt_path=")]
        kept.append(f"ckpt_path={quote_value(str(checkpoint.path))}")
    arguments = [*kept, f"hydra.run.dir={quote_value(str(directory))}"]
    return Plan(arguments, run=directory, checkpoint=checkpoint, copy_of=copy_of)


def _is_resumable(run: Run, given: list[str]) -> bool:
    """Return whether ``resume=latest`` may mean a run: something is left to do, or the user asks for more."""
    is_done = run.status == "completed" and run.attempt is run.record
    return (
        not run.is_running
        and run.status != "pruned"
        and isinstance(run.attempt.get("arguments"), list)
        and (not is_done or _asks_for_more(run, given))
    )


def _asks_for_more(run: Run, given: list[str]) -> bool:
    """Return whether somebody wants to train longer: by other limits, or callbacks if one has ended the training."""
    keys = ("trainer.max_", "callbacks.", "callbacks=") if "stopped" in run.attempt else ("trainer.max_",)
    return any(argument.lstrip("+~").startswith(keys) for argument in given)


def _resume_directory(source: Path, given: list[str]) -> tuple[Path, Path | None]:
    """Return the directory in which a run is resumed, and the run's own if that is another one."""
    elsewhere = [read_path(a.partition("=")[2]) for a in given if a.startswith("hydra.run.dir=")]
    if not elsewhere or Path(elsewhere[-1]).resolve() == source.resolve():
        return source, None
    return Path(elsewhere[-1]), source


def _check_not_running(run: Run) -> None:
    """Raise `ConfigError` if a process runs a run."""
    if run.is_running:
        shown = shell_path(run.directory)
        raise ConfigError([f"resume must be a run that has ended, got {shown}: {run.runner} runs it"])


def _check_resumable(run: Run, recorded: list[str], given: list[str]) -> None:
    """Raise `ConfigError` if a run is completed, or may not be changed as it is asked to."""
    shown = shell_path(run.directory)
    for override in split_flags(given)[1]:
        if override not in recorded and not _CHANGEABLE_ON_RESUME.match(override.lstrip("+~")):
            last = path_override("ckpt_path", run.directory / "checkpoints" / "last.ckpt")
            instead = f"a run of its own from these weights: {shell_word(last)}"
            raise ConfigError([f"{override.partition('=')[0]} must not change when a run is resumed; {instead}"])
    if run.status == "completed" and run.attempt is run.record and not _asks_for_more(run, given):
        limit = "max_steps" if any(a.startswith("trainer.max_steps=") for a in recorded) else "max_epochs"
        longer = resume_command(run.directory, recorded, f"trainer.{limit}=...")
        stop = run.attempt.get("stopped")
        why = f", which stopped early ({stop.get('reason')})" if stop else ""
        rule = "resume must be a run that is not completed"
        raise ConfigError([f"{rule}, got {shown}{why}; to train it longer: {longer}"])


def plan_rerun(wanted: str, given: list[str]) -> Plan:
    """Return the plan that trains a run again, from its beginning, in a directory of its own.

    Raises:
        ConfigError: If there is no such run, or nothing to compare with.
    """
    if {"-m", "--multirun"} & set(given):
        raise ConfigError(["rerun= must be without -m: it repeats one run; to repeat a sweep, type its command"])
    run, recorded = _find_run("rerun", wanted, lambda found: found.status == "completed")
    from backlit.runs.compare import check_comparable

    try:
        check_comparable(run.directory)
    except ValueError as error:
        raise ConfigError([f"rerun={wanted}: {error}"]) from None
    own = f"{run.directory.resolve()}{os.sep}"
    # A resumed run was started with its own checkpoint.
    begun = [a for a in recorded if not (a.startswith("ckpt_path=") and _is_below(a.partition("=")[2], own))]
    kept = repeatable_arguments(begun, given, recorded_by=run.directory)
    return Plan(merge_arguments(kept, given), rerun_of=run.directory)


def _is_below(value: str, directory: str) -> bool:
    return str(Path(read_path(value)).resolve()).startswith(directory)


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
    kept = repeatable_arguments(recorded, given, directory, of_sweep=True)
    _reject_symlinks(directory)
    for job in jobs:
        if any(override.lstrip("+~").startswith("hydra") for override in job["overrides"]):
            raise ConfigError([f"{directory}/sweep.json must have jobs without settings of Hydra, got {job['number']}"])
    repeatable_arguments(list(dict.fromkeys(o for job in jobs for o in job["overrides"])), given, directory)
    changes = [argument for argument in given if argument not in ("-m", "--multirun")]
    return Plan(merge_arguments(kept, changes), sweep=directory)


def _reject_symlinks(directory: Path) -> None:
    """Raise `ConfigError` if a run directory has anything but files and directories, or no file where a run writes one.

    Through a link this process would write elsewhere; it would wait for a pipe or a device.
    """
    for path in directory.rglob("*"):
        if path.is_symlink():
            raise ConfigError([f"resume must be a directory without symbolic links, got {path}, which is one"])
        is_written = path.parent.name == ".hydra" or path.name in RUN_FILES
        if not path.is_file() and (is_written or not path.is_dir()):
            raise ConfigError([f"resume must be a directory of files, got {path}, which is no file"])
        if path.suffix in (".log", ".csv") and path.stat().st_nlink > 1:
            raise ConfigError(
                [f"resume must be a directory of files of its own, got {path}, which has another name, too"]
            )


def _find_run(key: str, wanted: str, fits: Callable[[Run], bool]) -> tuple[Run, list[str]]:
    """Return the run that ``key=wanted`` names, and the arguments of the command that has trained it last.

    Args:
        key: ``resume`` or ``rerun``.
        wanted: A run directory, or ``latest``.
        fits: Whether ``latest`` may mean a run.

    Raises:
        ConfigError: If there is none, or none that a command has started.
    """
    try:
        directory = _find_latest(fits) if wanted == "latest" else Path(wanted)
        run = Run.read(directory)
    except ValueError as error:
        raise ConfigError([f"{key}={wanted}: {error}"]) from None
    if run is None:
        is_sweep = (directory / "sweep.json").exists()
        sweep = f"; to resume the sweep: -m {shell_word(path_override('resume', directory))}" if is_sweep else ""
        there = "has no run.json" if directory.is_dir() else "does not exist"
        raise ConfigError([f"{key} must be a run directory or 'latest', got {wanted}, which {there}{sweep}"])
    arguments = (run.attempt if key == "resume" else run.record).get("arguments")
    if not isinstance(arguments, list):
        why = "which has no arguments in its run.json (it was trained from Python, or is older)"
        raise ConfigError([f"{key} must be a run that backlit-train has started, got {wanted}, {why}"])
    return run, [str(argument) for argument in arguments]


def _find_latest(fits: Callable[[Run], bool]) -> Path:
    """Return the latest run under ``outputs`` that fits; if none does, the latest, whose problem is then reported.

    Raises:
        ValueError: If there is no run at all.
    """
    directories = latest_directories("run.json", Path("outputs"))
    if not directories:
        raise ValueError(f"there is no run in {Path('outputs').resolve()}")
    for directory in directories:
        with contextlib.suppress(ValueError):  # a record that cannot be read
            if (run := Run.read(directory)) is not None and fits(run):
                return directory
    return directories[0]


def _find_sweep(wanted: str, given: list[str]) -> tuple[Path, list[str]]:
    """Return a sweep's directory and its command's arguments.

    ``latest`` is the latest of the same experiment, where one is given.
    """
    if wanted == "latest":
        experiment = {argument for argument in given if argument.startswith("experiment=")}
        for directory in latest_directories("sweep.json", Path("outputs")):
            arguments = _read_arguments(directory)
            if experiment <= set(arguments):
                return directory, arguments
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
