"""The rows of a table: runs, or jobs of a sweep, each with the settings in which it differs from the others."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backlit.runs.run import Run, flat_config
from backlit.runs.sweep_record import read_sweep
from backlit.text import shorten_numbers


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
        return (str(self.run.record.get("error") or "").strip().splitlines() or [""])[-1]

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
    """Return the jobs of a sweep, and one line per job that cannot be read.

    Raises:
        ValueError: If ``sweep.json`` is not what a sweep writes.
    """
    recorded = read_sweep(sweep_dir)["jobs"]
    if recorded:
        jobs = [(f"{job['number']}", sweep_dir / job["directory"], job["overrides"]) for job in recorded]
    else:  # of another launcher
        jobs = [(path.parent.name.split("_")[0], path.parent, None) for path in sorted(sweep_dir.glob("*/run.json"))]
    entries, problems, settings = [], [], []
    for name, directory, overrides in jobs:
        try:
            run = Run.read(directory)
        except ValueError as error:
            problems.append(str(error))
            continue
        entries.append(Entry(name, directory, run))
        if overrides is None:
            overrides = run.record.get("overrides", []) if run else []
        settings.append(_overrides_as_settings(overrides))
    keys = {key for job_settings in settings for key in job_settings}
    for entry, job_settings in zip(entries, settings, strict=True):
        if missing := keys - job_settings.keys():  # the sweep's overrides have changed: the config has the value
            config = flat_config(entry.directory)
            job_settings.update({key: config[key] for key in missing if key in config})
    for entry, job_settings in zip(entries, differing_settings(settings), strict=True):
        entry.settings = job_settings
    return entries, problems


def _overrides_as_settings(overrides: Iterable[str]) -> dict[str, str]:
    return {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in overrides)}


def differing_settings(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return each of several settings without the keys that have the same value in all of them."""
    keys = list(dict.fromkeys(key for each in settings for key in each))
    kept = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    return [{key: each[key] for key in kept if key in each} for each in settings]


def find_runs(paths: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Return all runs in or below some directories, and one line per run that cannot be read."""
    directories: dict[Path, None] = {}
    for path in paths:
        for parent, below, files in os.walk(path):
            if "run.json" in files:
                directories[Path(parent)] = None
                below.clear()
            below.sort()
    entries, problems = [], []
    common = Path(os.path.commonpath([d.parent for d in directories])) if directories else Path()
    for directory in directories:
        try:
            entries.append(Entry(str(directory.relative_to(common)), directory, Run.read(directory)))
        except ValueError as error:
            problems.append(str(error))
    configs = [flat_config(entry.directory) for entry in entries]
    for entry, settings in zip(entries, differing_settings(configs), strict=True):
        entry.settings = settings
    return entries, problems
