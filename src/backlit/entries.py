"""What a report is about: runs and jobs of sweeps, what sets each apart, and which of them is best."""

import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backlit.run import Run, flat_config, read_sweep

SEEDS = ("seed", "data.seed")


@dataclass
class Entry:
    """A line of a report: a run, or a job of a sweep that has not begun.

    Args:
        name: What it is called in the report.
        directory: Its run directory.
        run: What the directory holds; None for a job that has not begun.
        settings: What sets it apart: key to value.
    """

    name: str
    directory: Path
    run: Run | None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Return the run's status, ``waiting`` before it has begun."""
        return "waiting" if self.run is None else self.run.status

    @property
    def error(self) -> str:
        """Return the last line of what went wrong."""
        if self.run is None or self.status == "completed":
            return ""
        if self.run.record["status"] == "completed":
            return f"{self.run.metric[0]} is nan"
        return (str(self.run.record.get("error") or "").strip().splitlines() or [""])[-1]

    @property
    def best(self) -> tuple[float, float] | None:
        """Return the best value of the optimised metric and its epoch; None if there is none, or the run failed."""
        return None if self.run is None or self.status == "failed" else self.run.best

    @property
    def duration(self) -> float | None:
        """Return the seconds it took."""
        return None if self.run is None else self.run.record.get("duration_s")


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries, the best first: completed ones before others, those of one optimised metric together.

    What has no value of it comes last, in order.
    """
    entries = list(entries)
    metrics = list(dict.fromkeys(entry.run.metric for entry in entries if entry.run and entry.best))

    def key(entry: Entry) -> tuple[bool, bool, int, float]:
        if entry.best is None or entry.run is None:
            return (True, True, 0, 0)
        value = entry.best[0] if entry.run.metric[1] == "min" else -entry.best[0]
        return (False, entry.status != "completed", metrics.index(entry.run.metric), value)

    return sorted(entries, key=key)


def sweep_entries(sweep_dir: Path) -> tuple[list[Entry], list[str]]:
    """Return the jobs of a sweep, and a line for each that cannot be read."""
    recorded = read_sweep(sweep_dir)["jobs"]
    if recorded:
        jobs = [(f"{job['number']}", sweep_dir / job["directory"], job["overrides"]) for job in recorded]
    else:  # another launcher's
        jobs = [(path.parent.name.split("_")[0], path.parent, None) for path in sorted(sweep_dir.glob("*/run.json"))]
    entries, problems, overrides = [], [], []
    for name, directory, of_job in jobs:
        try:
            run = Run.read(directory)
        except ValueError as error:
            problems.append(str(error))
            continue
        entries.append(Entry(name, directory, run))
        overrides.append(of_job if of_job is not None else run.record.get("overrides", []) if run else [])
    settings = [_as_settings(of_job) for of_job in overrides]
    keys = {key for one in settings for key in one}
    for entry, one in zip(entries, settings, strict=True):
        if missing := keys - one.keys():  # a sweep whose overrides have changed: the others had the config's value
            config = flat_config(entry.directory)
            one.update({key: config[key] for key in missing if key in config})
    for entry, one in zip(entries, differing(settings), strict=True):
        entry.settings = one
    return entries, problems


def _as_settings(overrides: Iterable[str]) -> dict[str, str]:
    return {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in overrides)}


def differing(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return of each of several settings those that are not the same in all."""
    keys = list(dict.fromkeys(key for one in settings for key in one))
    kept = [key for key in keys if len({one.get(key) for one in settings}) > 1]
    return [{key: one[key] for key in kept if key in one} for one in settings]


def find_runs(paths: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Return all runs in or below some directories, and a line for each that cannot be read."""
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
    for entry, settings in zip(entries, differing(configs), strict=True):
        entry.settings = settings
    return entries, problems


def over_seeds(entries: Sequence[Entry]) -> dict[tuple[tuple[str, str], ...], list[Entry]]:
    """Return the completed entries that differ in their seeds alone, by their other settings, the best mean first.

    Nothing where seeds do not vary, or where there are several optimised metrics.
    """
    done = [entry for entry in entries if entry.best and entry.status == "completed"]
    is_comparable = len({entry.run.metric for entry in done if entry.run}) == 1
    if not is_comparable or not any(key in entry.settings for entry in done for key in SEEDS):
        return {}
    groups: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in done:
        groups.setdefault(tuple(pair for pair in entry.settings.items() if pair[0] not in SEEDS), []).append(entry)
    largest_first = done[0].run is not None and done[0].run.metric[1] == "max"
    return dict(sorted(groups.items(), key=lambda pair: statistics.mean(best_values(pair[1])), reverse=largest_first))


def best_values(entries: Iterable[Entry]) -> list[float]:
    """Return the best value of each entry that has one."""
    return [entry.best[0] for entry in entries if entry.best]
