"""What the commands have in common: Hydra, and errors told in one line. Nothing heavy is imported here."""

import contextlib
import difflib
import functools
import gc
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
from backlit.record import now
from backlit.recorded import Plan, plan
from backlit.run import ConfigError, brief, clear, from_here, is_of_disk, new_directory, quoted, read_sweep, write_json

# In a wheel the configs lie in the package, in a checkout at its top.
_IN_PACKAGE = Path(__file__).parent / "conf"
CONFIG_DIR = _IN_PACKAGE if _IN_PACKAGE.is_dir() else Path(__file__).parents[2] / "conf"

# Options of Hydra's groups that come with an extra.
_EXTRAS = {"joblib": "joblib", "optuna": "optuna", "ray": "ray", "submitit_slurm": "submitit"}

# What this process does, the sweep that it runs, and what keeps others from the run that goes on.
_plan = Plan([])
_sweep_dir: Path | None = None
_lock: Any = None


def goes_on() -> bool:
    """Tell whether this process does what a run directory says, rather than what its user has typed."""
    return _plan.is_recorded


def rerun_of() -> Path | None:
    """Return the run that this process trains again, None if it does not."""
    return _plan.rerun_of


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
            if _plan.sweep is None:
                self._reserve(config, "sweep", "hydra.sweep.dir")
                _sweep_dir = Path(config.hydra.sweep.dir)
                write_json(_sweep_dir / "sweep.json", {"started": now(), "arguments": sys.argv[1:]})
            self._name_jobs(config)
            with read_write(config):
                config.hydra.sweep.dir = str(_sweep_dir)
            if "optuna" in config.hydra.sweeper._target_:
                from backlit.search import get_ready

                get_ready(config, is_resumed=_plan.sweep is not None)

    def _name_jobs(self, config: DictConfig) -> None:
        """Let the jobs' names be what is varied; whatever launcher it is, it composes their configs from overrides."""
        typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        not_varied = [
            override.key_or_group
            for override in OverridesParser.create().parse_overrides(typed)
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
        if chosen and kind == "run" and wanted == _plan.run:
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
    global _plan, _sweep_dir
    _plan, _sweep_dir, all_completed = Plan([]), None, True
    try:
        _plan = plan(sys.argv[1:])
        sys.argv[1:], _sweep_dir = _plan.arguments, _plan.sweep
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
        if _plan.copy is not None and is_refused:
            shutil.rmtree(_plan.copy)
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
