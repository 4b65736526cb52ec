"""What the commands have in common: Hydra, and errors told in one line. Nothing heavy is imported here."""

import contextlib
import difflib
import functools
import gc
import itertools
import logging
import os
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from rich import get_console

from backlit.ranks import RankError, cluster, is_launched, shared
from backlit.run import Run, brief, clear, from_here, is_of_disk, latest_run, new_directory, now, read_sweep, write_json

# In a wheel the configs lie in the package, in a checkout at its top.
_IN_PACKAGE = Path(__file__).parent / "conf"
CONFIG_DIR = _IN_PACKAGE if _IN_PACKAGE.is_dir() else Path(__file__).parents[2] / "conf"

# Options of Hydra's groups that come with an extra.
_EXTRAS = {"joblib": "joblib", "optuna": "optuna", "ray": "ray", "submitit_slurm": "submitit"}

# The sweep of this process: its directory, and whether it was there before.
_sweep_dir: Path | None = None
_is_resumed = False
# The run that goes on in this process, and its directory if that was made for it now.
_resumed_run: Path | None = None
_copy: Path | None = None
_lock: Any = None
# The run that this process trains again.
_rerun_of: Path | None = None


def _job_name(number: int, overrides: str) -> str:
    """Return a directory for a job of a sweep: its number and what is particular to it.

    Without the characters that mean something to Hydra, so that it can be typed as a value: ``run=...``.
    """
    name = re.sub(r"\[(.*?)\]", lambda match: match[1].replace(",", "-"), brief(overrides))
    name = re.sub(r"[^\w.+-]+", "-", name.replace("=", "_").replace(",", "+")).strip("-+")
    return f"{number}_{name[:120]}" if name else str(number)


def _around(value: float) -> str:
    """Return seven values around `value`, two a decade, as Hydra's override grammar has them."""
    return ",".join(f"{value * 10 ** (half_decades / 2):.2g}" for half_decades in range(-3, 4))


def cpu_threads() -> int:
    """Return how many threads may compute: ``OMP_NUM_THREADS``, or the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_once(n_jobs: int) -> int:
    """Return how many jobs run side by side: -1 is as many as there are threads for."""
    return n_jobs if n_jobs > 0 else cpu_threads()


# For conf/.
OmegaConf.register_new_resolver("backlit.job_name", _job_name, replace=True)
OmegaConf.register_new_resolver("backlit.around", _around, replace=True)
OmegaConf.register_new_resolver("backlit.at_once", _at_once, replace=True)
# For conf/evaluate.yaml; `backlit.evaluate` puts in what the run has.
OmegaConf.register_new_resolver("backlit.precision", lambda: "32-true", replace=True)
ConfigStore.instance().store(group="data", name="of_run", node={})


class ConfigError(ValueError):
    """What a user got wrong, told without a traceback; exit code 2.

    Args:
        problems: One line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


class NotTheSameError(Exception):
    """A run that was trained again came out differently; the log says how."""


class JobError(Exception):
    """A job of a sweep has failed; the sweep's summary says how."""


class ConsoleHandler(logging.Handler):
    """Prints messages above rich's live display, if there is one, and leaves tracebacks to the log file."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        get_console().print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


def check_in_process(cfg: DictConfig) -> None:
    """Raise `ConfigError` with all that is wrong with a config of `backlit.train`."""
    from backlit.config import problems

    if found := problems(cfg):
        raise ConfigError(found)


@contextlib.contextmanager
def _exits(tells: bool = True) -> Iterator[None]:
    """End the process if something is raised: Hydra would make a warning of it and go on, unchecked.

    Args:
        tells: Say why; one of several processes is enough for that.
    """
    try:
        yield
    except (ConfigError, OSError, RankError) as error:
        sys.exit(tell(error) if tells else 2)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


class CheckFirst(Callback):
    """Hydra's callback that looks at a run's config, then makes its directory, before anything is written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the config; choose a run directory that nobody else has, the same one in all processes of the run.

        Raises:
            SystemExit: With code 2; Hydra turns any other exception of a callback into a warning.
        """
        with _exits():
            environment = cluster()
        if is_launched() or (environment is not None and environment.global_rank()):
            with read_write(config):
                config.hydra.job_logging.root.handlers = ["file"]  # the first process tells what there is to tell
        if is_launched():
            return
        with _exits(tells=environment is None or environment.local_rank() == 0):
            check_in_process(config)
            directory = shared(lambda: self._reserve(config, "run", "hydra.run.dir"), config.process_timeout)
        if environment is not None and environment.global_rank():
            directory.mkdir(parents=True, exist_ok=True)  # on another machine it may not be there
            with read_write(config):
                config.hydra.run.dir = str(directory)
                config.hydra.output_subdir = None
                # As Lightning names the log of a process that it starts.
                config.hydra.job.name += f"_ddp_process_{environment.global_rank()}"

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Choose a sweep directory that nobody else has, or the one of the sweep that goes on; begin its record.

        Raises:
            SystemExit: With code 2; Hydra turns any other exception of a callback into a warning.
        """
        global _sweep_dir
        with _exits():
            if cluster() is not None:
                raise ConfigError(["-m must not run under torchrun or srun: start a sweep once; it starts its jobs"])
            if not _is_resumed:
                self._reserve(config, "sweep", "hydra.sweep.dir")
                _sweep_dir = Path(config.hydra.sweep.dir)
            assert _sweep_dir is not None
            if not _is_resumed:
                write_json(_sweep_dir / "sweep.json", {"started": now(), "arguments": sys.argv[1:]})
            self._name_jobs(config)
            with read_write(config):
                config.hydra.sweep.dir = str(_sweep_dir)
            if "optuna" in config.hydra.sweeper._target_:
                from backlit.search import get_ready

                get_ready(config, is_resumed=_is_resumed)

    def _name_jobs(self, config: DictConfig) -> None:
        """Let the jobs' names be what is varied; whatever launcher it is, it composes their configs from overrides."""
        not_varied = [
            override.key_or_group
            for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
            if not override.is_sweep_override()
        ]
        names = ",".join(quoted(name) for name in not_varied)
        with read_write(config):
            config.hydra.overrides.hydra += [
                f"hydra.sweep.dir={quoted(str(_sweep_dir))}",
                f"hydra.job.config.override_dirname.exclude_keys=[{names}]",
            ]

    def _reserve(self, config: DictConfig, kind: str, key: str) -> Path:
        wanted = Path(config.hydra[kind].dir)
        chosen = any(override.lstrip("+").startswith(f"{key}=") for override in config.hydra.overrides.hydra)
        if chosen and kind == "run" and wanted == _resumed_run:
            _lock_run(wanted)
            if not any((wanted / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "previous")):
                clear(wanted)  # it starts anew
            return wanted
        if chosen and any(wanted.glob("run.json" if kind == "run" else "*/run.json")):
            hint = f"; to go on with it: -m resume={from_here(wanted)}" if kind == "sweep" else ""
            raise ConfigError([f"{key} must be a directory without a {kind}, got {wanted}, which has one{hint}"])
        try:
            if chosen:
                wanted.mkdir(parents=True, exist_ok=True)
            made = wanted if chosen else new_directory(wanted)
            tempfile.TemporaryFile(dir=made).close()
        except OSError as error:
            raise ConfigError(
                [f"{key} must be a directory that can be written, got {wanted}: {error.strerror}"]
            ) from None
        with read_write(config):
            config.hydra[kind].dir = str(made)
        return made


def _lock_run(directory: Path) -> None:
    """Keep the run that goes on to this process, as long as it lives.

    Raises:
        ConfigError: If another process has it, or if it cannot be written to.
    """
    global _lock
    from filelock import FileLock, Timeout

    _lock = FileLock(directory / ".lock")
    try:
        _lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError([f"{directory} is being run by another process; wait for it, or end it"]) from None
    except OSError as error:
        elsewhere = "to go on elsewhere: hydra.run.dir=<a new directory>"
        raise ConfigError([f"{directory} cannot be written to: {error.strerror}; {elsewhere}"]) from None


def quoted(value: str) -> str:
    """Return a string as a value that Hydra's override grammar reads as it is."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def go_on(arguments: list[str]) -> list[str]:
    """Return the arguments of the run or sweep that ``resume=`` or ``rerun=`` names, changed by the others given.

    Without one of these, `arguments` are returned as they are. Afterwards this process belongs to that run or sweep.

    Raises:
        ConfigError: If there is no such run or sweep.
    """
    global _sweep_dir, _is_resumed
    if sum(any(a.startswith(f"{key}=") for a in arguments) for key in ("resume", "rerun")) > 1:
        raise ConfigError(["resume= and rerun= must not be together: give one of them"])
    if again := [argument.removeprefix("rerun=") for argument in arguments if argument.startswith("rerun=")]:
        return _again(again[-1], [argument for argument in arguments if not argument.startswith("rerun=")])
    wanted = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not wanted:
        return arguments
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
    _sweep_dir, _is_resumed = found, True
    return _merged(before, [argument for argument in given if argument not in ("-m", "--multirun")])


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


def goes_on() -> bool:
    """Tell whether this process does what a run directory says, rather than what its user has typed."""
    return _is_resumed or _resumed_run is not None or _rerun_of is not None


def rerun_of() -> Path | None:
    """Return the run that this process trains again, None if it does not."""
    return _rerun_of


def _merged(before: list[str], given: list[str]) -> list[str]:
    """Return a command's arguments with others in the place of those that are about the same."""
    flags, overrides = _parted(before)
    more_flags, more_overrides = _parted(given)
    merged = {override.lstrip("+~").partition("=")[0]: override for override in [*overrides, *more_overrides]}
    return [*flags, *more_flags, *merged.values()]


# What may be told a run that goes on; all else is in its checkpoint, or has made what it has learned.
_MAY_CHANGE = re.compile(
    r"(hydra|trainer|checkpoint|callbacks|logger)[./=]|(test|tags|packages|process_timeout|lean_loop)="
    r"|data\.(num_workers|pin_memory|device_resident|eval_batch_size|data_dir)="
)


def _go_on_with_run(wanted: str, given: list[str]) -> list[str]:
    """Return the arguments with which a run goes on: its own, what is given now, and its last checkpoint.

    Raises:
        ConfigError: If there is no such run, or if nothing is left for it to do.
    """
    global _resumed_run, _copy
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
        longer = f"backlit-train resume={from_here(directory)} trainer.max_epochs=..."
        raise ConfigError(
            [f"resume must be a run that is not completed, got {from_here(directory)}; for more: {longer}"]
        )
    elsewhere = [a.partition("=")[2].strip("'\"") for a in given if a.startswith("hydra.run.dir=")]
    if elsewhere and Path(elsewhere[-1]).resolve() != directory.resolve():
        directory = _copy = _copied(directory, Path(elsewhere[-1]))
    _resumed_run = directory
    from backlit.load import last_checkpoint

    try:
        checkpoint = last_checkpoint(directory)
    except ValueError as error:
        raise ConfigError([f"resume={wanted}: {error}"]) from None
    merged = _merged(_taken_over(before, given), given)
    kept = [argument for argument in merged if not argument.startswith(("hydra.run.dir=", "resume="))]
    if checkpoint is not None:
        kept = [*(a for a in kept if not a.startswith("ckpt_path=")), f"ckpt_path={quoted(str(checkpoint))}"]
    return [*kept, f"hydra.run.dir={quoted(str(directory))}"]


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


def _again(wanted: str, given: list[str]) -> list[str]:
    """Return the arguments with which a run is trained again, from its beginning, in a directory of its own.

    Raises:
        ConfigError: If there is no such run.
    """
    global _rerun_of
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
    _rerun_of = run.directory
    own = f"{run.directory.resolve()}{os.sep}"
    kept = []
    for argument in _taken_over(before, given):
        key, _, value = argument.partition("=")
        # Those of a run that went on: where, and from what.
        goes_on = key == "ckpt_path" and str(Path(value.strip("'")).resolve()).startswith(own)
        if key != "hydra.run.dir" and not goes_on:
            kept.append(argument)
    return _merged(kept, given)


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


def quiet_lightning() -> None:
    """Keep from users Lightning's hints and the warnings that they can do nothing about."""
    import lightning.pytorch  # noqa: F401  (its import sets up the loggers)

    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        # Hydra's handlers are enough: with its own ones every line comes twice.
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(True)  # so that they are in train.log too
    for message in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 beside torch 2.14
        "The '.*_dataloader' does not have many workers",  # the data lie in memory
        "Total length of `list` across ranks is zero",  # no validation set was asked for
        "The number of training batches .* is smaller than the logging interval",  # records span epochs
        "You requested to overfit but enabled train dataloader shuffling",  # and it is turned off, as it should
        "The `srun` command is available on your system but is not used",  # README says when it is wanted
        "Checkpoint directory .* exists and is not empty",  # that of a run that goes on
        "The dirpath has changed from",  # ckpt_path of one run, directory of another
    ):
        warnings.filterwarnings("ignore", message)


def command(
    task: Callable[[DictConfig], Any], config_name: str, check: Callable[[DictConfig], list[str]] | None = None
) -> None:
    """Run `task` as a Hydra program and tell errors as a user wants to read them.

    Exit codes: 0 done; 2 the command is wrong, nothing was started; 1 the run failed; 130 and 143 it was interrupted.

    Args:
        task: What is done with the config.
        config_name: The config at the top.
        check: Returns what is wrong with the config of a sweep's job, a line a problem.
    """
    # Importing torch and Lightning makes a million objects that stay; to look for garbage among them all the while
    # costs a second of four. `backlit.train` goes back to normal.
    gc.set_threshold(1_000_000, 10, 10)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Whenever Hydra composes, or lists a group, it copies this singleton with all that plugins have stored in it, only
    # to read from it what is copied then anyway: 0.35 s of --help's 0.7 s with the plugins of the extras.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    # The first import on a machine lists its fonts, and would say so.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    started = False

    @functools.wraps(task)
    def told(cfg: DictConfig) -> Any:
        nonlocal started
        started = True
        try:
            return task(cfg)
        except (ConfigError, FloatingPointError, NotTheSameError, OSError, RankError) as error:
            if isinstance(error, OSError) and not is_of_disk(error):
                raise
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # Hydra goes on with the other jobs and says at the end which failed
            sys.exit(tell(error, config_name) if isinstance(error, ConfigError) else 1)

    if check is not None:
        told.check = check  # type: ignore[attr-defined]
    global _sweep_dir, _is_resumed, _resumed_run, _copy, _rerun_of
    _sweep_dir, _is_resumed, _resumed_run, _copy, _rerun_of, all_completed = None, False, None, None, None, True
    try:
        sys.argv[1:] = go_on(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(told)()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        sys.exit(tell(error, config_name))
    except (FloatingPointError, JobError, NotTheSameError, RankError):
        # The log has told it, with the run's directory; or a sweep's summary will.
        sys.exit(1)
    except (ValueError, RuntimeError) as error:
        # Hydra's, for some malformed overrides; a launcher's that lacks what it launches by.
        ended: list[Path] = [] if _sweep_dir is None else list(_sweep_dir.glob("*/run.json"))
        if ended and not any('"status": "completed"' in path.read_text() for path in ended):
            sys.exit(1)  # Optuna's, which has no best of none; the summary tells why
        if started or ended:
            raise
        sys.exit(tell(error, config_name))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        leaving = sys.exception()
        is_refused = isinstance(leaving, SystemExit) and leaving.code == 2
        if _copy is not None and is_refused:
            shutil.rmtree(_copy)
        all_completed = _close_sweep(is_refused)
    if not all_completed:
        sys.exit(1)


def _close_sweep(is_refused: bool) -> bool:
    """Sum up this process's sweep, if it has one, and tell whether all is completed; leave nothing of an empty one."""
    if _sweep_dir is None or not _sweep_dir.exists():
        return True
    if not any(_sweep_dir.glob("*/")) and not read_sweep(_sweep_dir)["jobs"]:
        for name in ("multirun.yaml", "sweep.json", "optuna.db", ".lock"):
            (_sweep_dir / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            _sweep_dir.rmdir()
        return True
    if is_refused:
        return False
    from backlit.report import sum_up

    return sum_up(_sweep_dir)


def tell(error: Exception, config_name: str = "train") -> int:
    """Print on stderr what is wrong, one line a problem, and return the exit code."""
    for line in explain(error, config_name).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return 2


def explain(error: Exception, config_name: str) -> str:
    """Return what an error means for somebody who typed a command."""
    text = str(error).strip()
    if isinstance(error, ConfigError):
        return text
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if not group:
            return f"--config-name={option}: no such config in {CONFIG_DIR}"
        options = sorted(error.options or [])
        install = f"; pip install 'backlit[{_EXTRAS[option]}]'" if option in _EXTRAS and "hydra/" in group else ""
        return f"{group}={option}: no such option{_nearest(option, options)}{install}; there are: {', '.join(options)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        keys = _known_keys(config_name)
        if "No match in the defaults list" in text or "." not in key:
            keys = [k for k in keys if "." not in k]
            return f"{key}: no such key or group{_nearest(key, keys)}; there are: {', '.join(keys)}"
        return f"{key}: no such key{_nearest(key, keys)}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("object_type", "reference_type", "See https")))


def _known_keys(config_name: str) -> list[str]:
    """Return all keys that the command line's choice of options has, with their groups."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        choices = [a for a in sys.argv[1:] if re.fullmatch(r"\w+=\w+", a)]
        for overrides in (choices, []):
            try:
                return list(_keys(hydra.compose(config_name, overrides), ""))
            except HydraException:
                continue
    return []


def _keys(node: Any, prefix: str) -> list[str]:
    found = []
    for key in node:
        name = f"{prefix}{key}"
        found.append(name)
        child = None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) else node[key]
        if OmegaConf.is_dict(child):
            found += _keys(child, f"{name}.")
    return found


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]}?" if close else ""
