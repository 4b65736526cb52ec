"""A search from its keys to its end: its settings and the ends of what varies are checked, then trials run."""

import contextlib
import functools
import importlib.util
import logging
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from hydra.core.utils import configure_log, setup_globals
from omegaconf import OmegaConf

from backlit.arguments import Positive, PositiveInt, Seed, find_problem
from backlit.errors import ConfigError, JobError
from backlit.sweeps.check_jobs import check_jobs, import_for_jobs
from backlit.sweeps.compose import compose_job
from backlit.sweeps.engine import Engine
from backlit.sweeps.fork import run_in_child
from backlit.sweeps.job import Job
from backlit.sweeps.journal import repair_journal
from backlit.sweeps.run_jobs import run_jobs
from backlit.sweeps.search_space import SearchSpace, read_space
from backlit.sweeps.study import (
    PRUNERS,
    SAMPLERS,
    Study,
    StudySettings,
    check_sampler,
    grid_values,
)
from backlit.sweeps.sweep import Sweep
from backlit.sweeps.templates import Learned
from backlit.sweeps.trial_source import MOST_FAILURES_IN_A_ROW, TrialSource
from backlit.text import shell_path

log = logging.getLogger(__name__)


def search(
    sweep: Sweep,
    engine: Engine,
    arguments: Sequence[str],
    *,
    n_trials: int,
    timeout: float | None,
    sampler: str,
    pruner: str,
    seed: int | None,
    direction: Literal["minimize", "maximize"],
) -> None:
    """Search for the best values of what varies.

    Args:
        sweep: What the jobs have in common.
        engine: Starts the jobs.
        arguments: The overrides that were typed.
        n_trials: The number of trials, those of earlier attempts included.
        timeout: Seconds after which no new trial starts; None for no limit.
        sampler: One of `SAMPLERS`: proposes trials.
        pruner: One of `PRUNERS`: ends trials that are not worth going on.
        seed: Seeds the sampler.
        direction: ``minimize`` or ``maximize``: of the optimized metric.

    Raises:
        ConfigError: If something is wrong with the search, or with a trial at the ends of what is varied; then none
            starts.
        JobError: If so many trials in a row have failed that the search has ended early.
    """
    setup_globals()
    configure_log(sweep.config.hydra.hydra_logging, sweep.config.hydra.verbose)
    if sweep.config.zoom:
        raise ConfigError([f"zoom must be 0 for a search, which looks around by itself, got {sweep.config.zoom}"])
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(["a search needs Optuna: pip install 'backlit[optuna]'"])
    if not engine.waits:
        raise ConfigError(["hydra.launcher.wait must be true for a search: it needs the results, got false"])
    _check_settings(sweep, n_trials=n_trials, timeout=timeout, sampler=sampler, pruner=pruner, seed=seed)
    space = read_space(sweep.config, arguments, sweep.hydra_context.config_loader)
    check_sampler(sampler, space)
    sweep.directory.mkdir(parents=True, exist_ok=True)
    settings = StudySettings(str(sweep.config.task_name), direction, sampler, pruner, seed or 0)
    if sampler == "grid":
        n_trials = min(n_trials, math.prod(map(len, grid_values(space).values())))
    count = f"{n_trials} trial{'s' * (n_trials != 1)}"
    log.info("%s, the ends of what varies are checked first: %s", count, shell_path(sweep.directory))
    with run_in_child(functools.partial(_compose_corners, sweep, space)) as composed:
        import_for_jobs()
        corners: list[Job]
        corners, learned = composed()
    sweep.templates.learn(learned)
    directories = [job.directory for job in corners]
    if len({*directories}) < len(directories) or any(path.parent != sweep.directory for path in directories):
        rule = "hydra.sweep.subdir must be the name of a directory of each trial's own"
        raise ConfigError([f"{rule}, got {sweep.config.hydra.sweep.subdir}"])
    with contextlib.closing(engine):
        # The same end stands in several examples.
        found = check_jobs(sweep, engine, corners, n_jobs=n_trials * len(space.repetitions))
        if problems := list(dict.fromkeys(line for lines in found for line in lines)):
            raise ConfigError([_add_int(line) for line in problems])
        repair_journal(sweep.directory)
        source = TrialSource(
            sweep,
            Study(sweep.directory, settings, space),
            gpus=max(job.gpus for job in corners),
            n_trials=n_trials,
            timeout=timeout,
            is_elsewhere=engine.is_elsewhere,
        )
        with contextlib.closing(source):
            run_jobs(sweep, engine, source, {})
    if source.is_hopeless:
        log.error("the search has ended early: %d trials in a row have failed", MOST_FAILURES_IN_A_ROW)
        raise JobError("trials fail")


def _check_settings(sweep: Sweep, *, sampler: str, pruner: str, **numbers: object) -> None:
    """Raise `ConfigError` if a key of the search is out of its range."""
    ranges: dict[str, Any] = {"n_trials": PositiveInt, "timeout": Positive | None, "seed": Seed | None}
    found = [find_problem(f"hydra.sweeper.{key}", numbers[key], hint) for key, hint in ranges.items()]
    for key, value, known in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if value not in known:
            found.append(f"hydra.sweeper.{key} must be one of {', '.join(known)}, got {value}")
    metric = str(sweep.config.optimized_metric)
    validates = all(OmegaConf.select(sweep.config, key) != 0 for key in ("trainer.limit_val_batches", "data.val_size"))
    if pruner != "none" and not (metric.startswith("train") or (metric.startswith("val") and validates)):
        what = "without validation there is none" if metric.startswith("val") else f"{metric} is not measured then"
        found.append(
            f"hydra.sweeper.pruner={pruner} must have values of {metric} while a run trains; {what}: take none"
        )
    if problems := [line for line in found if line]:
        raise ConfigError(problems)


def _add_int(problem: str) -> str:
    """Return a problem with what to type for whole numbers: Hydra's intervals are of floats."""
    is_about_int = re.search("must be int .*, got [-.0-9e]+$", problem)
    return f"{problem}; for whole numbers: int(interval(...))" if is_about_int else problem


def _compose_corners(sweep: Sweep, space: SearchSpace) -> tuple[list[Job], Learned]:
    """Return jobs that together have both ends of every interval, every choice, every repetition; what was learned."""
    all_overrides = [overrides for corner in space.corners() for overrides in space.trial_overrides(corner)]
    jobs = [compose_job(sweep, overrides, number) for number, overrides in enumerate(all_overrides)]
    return jobs, sweep.templates.learned
