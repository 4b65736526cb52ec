"""Commands that run directories have recorded: to go on with a run or a sweep, or to train a run again.

What is read there may be a stranger's: nothing is taken over that could run code, unless it is typed again.
"""

import itertools
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from backlit.run import ConfigError, Run, from_here, latest_run, quoted, read_sweep


@dataclass(frozen=True)
class Plan:
    """What a command comes to.

    Args:
        arguments: Those that Hydra gets.
        sweep: The sweep that goes on.
        run: The run that goes on.
        copy: Its directory, if that was made for it now.
        rerun_of: The run that is trained again.
    """

    arguments: list[str]
    sweep: Path | None = None
    run: Path | None = None
    copy: Path | None = None
    rerun_of: Path | None = None

    @property
    def is_recorded(self) -> bool:
        """Tell whether a run directory says what is done, rather than the user of this process."""
        return any((self.sweep, self.run, self.rerun_of))


def plan(arguments: list[str]) -> Plan:
    """Return what arguments come to: those recorded by what ``resume=`` or ``rerun=`` names, changed by the others.

    Raises:
        ConfigError: If there is no such run or sweep.
    """
    if sum(any(a.startswith(f"{key}=") for a in arguments) for key in ("resume", "rerun")) > 1:
        raise ConfigError(["resume= and rerun= must not be together: give one of them"])
    if again := [argument.removeprefix("rerun=") for argument in arguments if argument.startswith("rerun=")]:
        return _again(again[-1], [argument for argument in arguments if not argument.startswith("rerun=")])
    wanted = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not wanted:
        return Plan(arguments)
    given = [argument for argument in arguments if not argument.startswith("resume=")]
    if not {"-m", "--multirun"} & set(arguments):
        return _go_on_with_run(wanted[-1], given)
    found, before = _find_sweep(wanted[-1], given)
    if not read_sweep(found)["jobs"]:
        why = "another launcher ran it, or it was stopped before its first job"
        raise ConfigError([f"resume must be a sweep whose jobs are known, got {found}: {why}"])
    before = _taken_over(before, given)
    _refuse_links(found)
    for job in read_sweep(found)["jobs"]:
        _taken_over(job["overrides"], given)
    merged = _merged(before, [argument for argument in given if argument not in ("-m", "--multirun")])
    return Plan(merged, sweep=found)


# Of Hydra's own settings, those that a recorded command may have: places and numbers.
_OF_HYDRA = re.compile(
    r"hydra\.((run|sweep)\.dir|mode|verbose|launcher\.(n_jobs|gpus_per_job)|sweeper\.(n_trials|n_jobs))=[^{}\[\]]*"
    r"|hydra/(launcher=backlit|sweeper=(basic|optuna))"
)
_GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "experiment", "sweep", "debug")


def _is_data(override: str) -> bool:
    """Tell whether an override says no more than which option of backlit's, which number, which text.

    What its values make of the config is looked at when that is composed (`backlit.load.not_trusted`). Here it is about
    what Hydra does before: it reads the files that groups name, resolves interpolations, and makes objects for itself.
    """
    key, _, value = override.partition("=")
    key = key.lstrip("+~")
    if not re.fullmatch(r"[\w./-]+", key) or re.search(r"[$\\\n\r]", value):  # no @package, interpolation, escape
        return False
    if key == "task_name":  # which is a directory
        return bool(re.fullmatch(r"\w[\w.-]*", value))
    if key.startswith("hydra"):
        return bool(_OF_HYDRA.fullmatch(override))
    return not (key in _GROUPS or "/" in key) or bool(re.fullmatch(r"[\w, \[\]-]*", value))


def _taken_over(recorded: list[str], given: list[str]) -> list[str]:
    """Return of a command's arguments, as a run directory, maybe a stranger's, has recorded them, those to be repeated.

    Raises:
        ConfigError: If one of them may run code, and is not given again.
    """
    flags, overrides = _parted(recorded)
    values = dict(itertools.pairwise(flags))
    for flag in flags:
        if flag.startswith("-") and flag not in ("-m", "--multirun", *given):
            again = f"{flag} {values.get(flag, '')}".strip()
            raise ConfigError([f"{again!r} is what this run was started with; if you trust it, give it again"])
    for override in overrides:
        if override not in given and not _is_data(override):
            raise ConfigError([f"{override!r} is what this run was started with; if you trust it, give it again"])
    kept = [flag for flag in flags if flag in ("-m", "--multirun")]  # the others have been given again
    return [*kept, *(override for override in overrides if not override.lstrip("+").startswith("packages="))]


def _merged(before: list[str], given: list[str]) -> list[str]:
    """Return a command's arguments with others in the place of those that are about the same."""
    flags, overrides = _parted(before)
    more_flags, more_overrides = _parted(given)
    merged: dict[str, str] = {}
    for override in [*overrides, *more_overrides]:
        key = override.lstrip("+~").partition("=")[0]
        if override.startswith("~") and merged.get(key, "").startswith("+"):
            del merged[key]  # what was added is taken away again
        else:
            merged[key] = override
    return [*flags, *more_flags, *merged.values()]


# What may be told a run that goes on; all else is in its checkpoint, or has made what it has learned.
_MAY_CHANGE = re.compile(
    r"(hydra|trainer|checkpoint|callbacks|logger)[./=]|(test|tags|packages|process_timeout|lean_loop)="
    r"|data\.(num_workers|pin_memory|device_resident|eval_batch_size|data_dir)="
)


def _go_on_with_run(wanted: str, given: list[str]) -> Plan:
    """Return what lets a run go on: its own arguments, what is given now, and its last checkpoint.

    Raises:
        ConfigError: If there is no such run, or if nothing is left for it to do.
    """
    run, before = _find_run("resume", wanted)
    directory = run.directory
    _refuse_links(directory)
    for override in _parted(given)[1]:
        if not _MAY_CHANGE.match(override.lstrip("+~")):
            instead = f"a run of its own from these weights: ckpt_path={from_here(directory)}/checkpoints/last.ckpt"
            raise ConfigError([f"{override.partition('=')[0]} must stay as it is when a run goes on; {instead}"])
    if run.status == "running":
        where = f"process {run.record.get('pid')} on {run.record.get('host')}"
        raise ConfigError([f"resume must be a run that has ended, got {from_here(directory)}: {where} runs it"])
    if run.status == "completed" and not given:
        limit = "max_steps" if any(a.startswith("trainer.max_steps=") for a in before) else "max_epochs"
        longer = f"backlit-train resume={from_here(directory)} trainer.{limit}=..."
        raise ConfigError(
            [f"resume must be a run that is not completed, got {from_here(directory)}; for more: {longer}"]
        )
    copy = None
    elsewhere = [a.partition("=")[2].strip("'\"") for a in given if a.startswith("hydra.run.dir=")]
    if elsewhere and Path(elsewhere[-1]).resolve() != directory.resolve():
        directory = copy = _copied(directory, Path(elsewhere[-1]))
    from backlit.load import last_checkpoint

    try:
        checkpoint = last_checkpoint(directory)
    except ValueError as error:
        raise ConfigError([f"resume={wanted}: {error}"]) from None
    merged = _merged(_taken_over(before, given), given)
    kept = [argument for argument in merged if not argument.startswith(("hydra.run.dir=", "resume="))]
    if checkpoint is not None:
        kept = [*(a for a in kept if not a.startswith("ckpt_path=")), f"ckpt_path={quoted(str(checkpoint))}"]
    return Plan([*kept, f"hydra.run.dir={quoted(str(directory))}"], run=directory, copy=copy)


def _refuse_links(directory: Path) -> None:
    """Let nobody's run directory make this process write somewhere else.

    Raises:
        ConfigError: If there is a link in it.
    """
    for path in directory.rglob("*"):
        if path.is_symlink():
            raise ConfigError([f"resume must be a directory without symbolic links, got {path}, which is one"])


def _find_run(key: str, wanted: str) -> tuple[Run, list[str]]:
    """Return the run that is meant by ``key=wanted``, and its command's arguments.

    Raises:
        ConfigError: If there is none, or none that a command has started.
    """
    try:
        directory = latest_run(Path("outputs"), with_checkpoint=False) if wanted == "latest" else Path(wanted)
        run = Run.read(directory)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError([f"{key}={wanted}: {error}"]) from None
    if run is None:
        sweep = f"; to go on with the sweep: -m resume={wanted}" if (directory / "sweep.json").exists() else ""
        there = "has no run.json" if directory.is_dir() else "does not exist"
        raise ConfigError([f"{key} must be a run directory or 'latest', got {wanted}, which {there}{sweep}"])
    arguments = run.record.get("arguments")
    if not isinstance(arguments, list):
        why = "which has no arguments in its run.json (it was trained from Python, or is older)"
        raise ConfigError([f"{key} must be a run that backlit-train has started, got {wanted}, {why}"])
    return run, [str(argument) for argument in arguments]


def _again(wanted: str, given: list[str]) -> Plan:
    """Return what trains a run again, from its beginning, in a directory of its own.

    Raises:
        ConfigError: If there is no such run.
    """
    if {"-m", "--multirun"} & set(given):
        raise ConfigError(
            ["rerun= must be without -m: it trains one run again; a sweep is started again by its command"]
        )
    run, before = _find_run("rerun", wanted)
    from backlit.rerun import check_comparable

    try:
        check_comparable(run.directory)
    except ValueError as error:
        raise ConfigError([f"rerun={wanted}: {error}"]) from None
    own = f"{run.directory.resolve()}{os.sep}"
    kept = []
    for argument in _taken_over(before, given):
        key, _, value = argument.partition("=")
        # Those of a run that went on: where, and from what.
        goes_on = key == "ckpt_path" and str(Path(value.strip("'")).resolve()).startswith(own)
        if key != "hydra.run.dir" and not goes_on:
            kept.append(argument)
    return Plan(_merged(kept, given), rerun_of=run.directory)


def _copied(directory: Path, target: Path) -> Path:
    """Return a copy of a run's directory, in which the run can go on; the run itself stays as it is."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError([f"hydra.run.dir must be an empty or new directory for the run to go on in, got {target}"])
    try:
        shutil.copytree(directory, target, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(target, ignore_errors=True)
        reason = str(error.args[0][0][2]) if isinstance(error, shutil.Error) else error.strerror
        reason = "No space left on device" if "No space left" in str(reason) else reason
        raise ConfigError([f"{directory} cannot be copied to {target}: {reason}"]) from None
    return target


def _parted(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return flags with their values, and overrides."""
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    return [a for a in arguments if a not in overrides], overrides


def _find_sweep(wanted: str, given: list[str]) -> tuple[Path, list[str]]:
    """Return a sweep's directory and its command's arguments.

    The latest is the latest of the same experiment, where one is given.
    """
    if wanted == "latest":
        found = sorted(Path("outputs").glob("*/sweeps/*/sweep.json"), key=lambda path: path.stat().st_mtime)
        same = {argument for argument in given if argument.startswith("experiment=")}
        for path in reversed(found):
            arguments = _arguments_of(path.parent)
            if not same or same <= set(arguments):
                return path.parent, arguments
        of = f" of {same.pop()}" if same else ""
        raise ConfigError([f"resume=latest: there is no sweep{of} in {Path('outputs').resolve()}"])
    directory = Path(wanted)
    if not (directory / "sweep.json").is_file():
        there = "has no sweep.json" if directory.is_dir() else "does not exist"
        raise ConfigError([f"resume must be the directory of a sweep or 'latest', got {wanted}, which {there}"])
    return directory, _arguments_of(directory)


def _arguments_of(sweep_dir: Path) -> list[str]:
    try:
        arguments: list[str] = read_sweep(sweep_dir)["arguments"]
    except (ValueError, KeyError) as error:
        raise ConfigError([f"resume must be a sweep whose sweep.json can be read, got {sweep_dir}: {error}"]) from None
    return arguments
