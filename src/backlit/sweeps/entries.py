"""The rows of a table: runs, or jobs of a sweep, each with the settings in which it differs from the others."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backlit.runs.run import NO_SETTINGS, Run, flat_config
from backlit.runs.sweep_record import read_sweep
from backlit.text import printable, shorten_numbers

# What a search would try, and what only shows a run.
_SHOWN_BY = ("progress_bar", "epoch_lines", "histograms", "model_graph", "pictures", "lr_monitor", "device_stats")
_NO_EFFECT = ("search.", "logger.", *(f"callbacks.{name}." for name in (*_SHOWN_BY, "model_summary", "rich_progress")))


@dataclass
class Entry:
    """A row of a table: a run, or a job of a sweep that has not started.

    Args:
        name: Its name in the table.
        directory: Its run directory.
        run: The run in the directory; None for a job that has not started.
        settings: The settings in which it differs from the others: key to value.
    """

    name: str
    directory: Path
    run: Run | None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Return the run's status, ``waiting`` before it has started."""
        return "waiting" if self.run is None else self.run.status

    @property
    def error(self) -> str:
        """Return the last line of the error, or an empty string."""
        if self.run is None or self.status == "completed":
            return ""
        if self.run.record["status"] == "completed":
            return f"{self.run.metric[0]} is nan"
        return printable((str(self.run.record.get("error") or "").strip().splitlines() or [""])[-1])

    @property
    def best(self) -> tuple[float, float] | None:
        """Return the best value of the optimized metric and its epoch; None without a value, or if the run failed."""
        return None if self.run is None or self.status == "failed" else self.run.best

    @property
    def duration_s(self) -> float | None:
        """Return the duration of the run in seconds."""
        return None if self.run is None else self.run.record.get("duration_s")

    @property
    def label(self) -> str:
        """Return the settings as ``key=value``, separated by spaces, with short numbers."""
        return settings_label(self.settings.items())


def settings_label(settings: Iterable[tuple[str, str]]) -> str:
    """Return settings as ``key=value``, separated by spaces, with short numbers."""
    return shorten_numbers(" ".join(f"{key}={value}" for key, value in settings))


def sweep_entries(sweep_dir: Path) -> tuple[list[Entry], list[str]]:
    """Return the jobs of a sweep, and one line per job that cannot be read, or if ``sweep.json`` cannot be read."""
    entries, problems, settings = [], [], []
    try:
        recorded = read_sweep(sweep_dir)["jobs"]
    except ValueError as error:
        recorded = []
        problems.append(printable(f"{error}; the jobs are those that have started"))
    if recorded:
        jobs = [(f"{job['number']}", sweep_dir / job["directory"], job["overrides"]) for job in recorded]
    else:  # of another launcher
        paths = sorted(sweep_dir.glob("*/run.json"))
        jobs = [(printable(path.parent.name.split("_")[0]), path.parent, None) for path in paths]
    configs = []
    for name, directory, overrides in jobs:
        try:
            run, config = _read_run(directory)
        except ValueError as error:
            problems.append(printable(str(error)))
            continue
        entries.append(Entry(name, directory, run))
        configs.append(config)
        if overrides is None:
            overrides = (run.record.get("overrides") or []) if run else []
        settings.append(_overrides_as_settings(overrides))
    keys = {key for job_settings in settings for key in job_settings}
    for config, job_settings in zip(configs, settings, strict=True):
        # Where the sweep's overrides have changed, the config has the value.
        job_settings.update({key: config[key] for key in keys - job_settings.keys() if key in config})
    for entry, job_settings in zip(entries, differing_settings(settings), strict=True):
        entry.settings = job_settings
    return entries, problems


def _read_run(directory: Path) -> tuple[Run | None, dict[str, str]]:
    """Return the run in a directory, None if it has not started, and its config with dotted keys.

    Raises:
        ValueError: If one of its files is not what a run writes; no later use of the run raises.
    """
    run = Run.read(directory)
    if run is not None:
        _ = run.rows
    return run, {printable(key): printable(value) for key, value in flat_config(directory).items()}


def _overrides_as_settings(overrides: Iterable[str]) -> dict[str, str]:
    pairs = (printable(override).partition("=") for override in overrides)
    return {key.lstrip("+"): value for key, _, value in pairs}


def differing_settings(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return each of several settings without the keys that have the same value in all of them."""
    keys = list(dict.fromkeys(key for each in settings for key in each))
    kept = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    return [{key: each[key] for key in kept if key in each} for each in settings]


def follow_interpolations(settings: dict[str, str]) -> dict[str, str]:
    """Return settings without ``${...}``: a value that is another key's becomes that key's value, others are left out.

    Interpolations are not resolved by OmegaConf, since that of a stranger's config may call a resolver.
    """
    followed = {}
    for key, value in settings.items():
        for _ in range(10):  # a stranger's may go in circles
            match = re.fullmatch(r"\$\{([\w.]+)\}", value) if value[:2] == "${" else None
            if match is None or match[1] not in settings:
                break
            value = settings[match[1]]
        if "${" not in value:
            followed[key] = value
    return followed


def find_runs(paths: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Return all runs in or below some directories, with all settings, and one line per run that cannot be read."""
    directories: dict[Path, None] = {}
    for path in paths:
        for parent, below, files in os.walk(path):
            if "run.json" in files or "run.json" in below:  # a directory of that name is a broken run
                directories[Path(parent)] = None
                below.clear()
            below.sort()
    entries, problems = [], []
    common = Path(os.path.commonpath([d.parent for d in directories])) if directories else Path()
    for directory in directories:
        try:
            run, config = _read_run(directory)
        except ValueError as error:
            problems.append(printable(str(error)))
            continue
        if run is None:  # a link that leads nowhere
            problems.append(printable(f"{directory / 'run.json'} must be a file, but does not exist"))
            continue
        number = directory.name.split("_")[0]  # of a job, whose directory is named by its settings, too
        is_job = number.isdigit() and any(
            (directory.parent / name).exists() for name in ("sweep.json", "multirun.yaml")
        )
        short = directory.with_name(number) if is_job else directory
        entries.append(Entry(printable(str(short.relative_to(common))), directory, run))
        settings = {key: value for key, value in config.items() if key not in NO_SETTINGS}
        entries[-1].settings = {key: value for key, value in settings.items() if not key.startswith(_NO_EFFECT)}
    return entries, problems
