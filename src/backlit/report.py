"""``backlit-report``: sums up a sweep, or compares any runs, from what their directories hold."""

import argparse
import csv
import io
import math
import os
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box, get_console
from rich.console import Console
from rich.table import Table

from backlit.run import Run, brief, flat_config, from_here, new_directory, quoted, read_sweep, whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Rows that a console gets, and curves that a picture gets; the files have all.
MOST_ROWS, MOST_CURVES = 50, 100
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


# Reading


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


# Telling


def sum_up(sweep_dir: Path) -> bool:
    """Print the summary of a sweep, and write it as ``sweep.csv``, ``sweep.md`` and ``sweep.png``.

    Returns:
        Whether all its jobs are completed.

    Raises:
        ValueError: If ``sweep.json`` is not what a sweep writes.
    """
    entries, problems = sweep_entries(sweep_dir)
    entries = ranked(entries)
    columns, rows = tabulate(entries, "job")
    means = over_seeds(entries)
    advice = [*_means(means), *_advice(sweep_dir, entries, means)]
    _show(f"sweep {from_here(sweep_dir)}", columns, rows)
    for line in [*(f"  left out  {problem}" for problem in problems), *advice]:
        get_console().print(line, markup=False, highlight=False, soft_wrap=True)
    try:
        _write_tables(sweep_dir, "sweep", columns, rows, advice)
        if any(entry.best for entry in entries):
            _save(draw_sweep(entries), sweep_dir / "sweep.png")
    except OSError as error:
        print(f"error: the summary cannot be written into {sweep_dir}: {error.strerror}", file=sys.stderr)
    return not problems and all(entry.status == "completed" for entry in entries)


def compare(entries: list[Entry], output: Path) -> None:
    """Print runs side by side; write that and their curves into a directory."""
    entries = ranked(entries)
    columns, rows = tabulate(entries, "run")
    _show(f"{len(entries)} runs", columns, rows)
    output = new_directory(output)
    _write_tables(output, "report", columns, rows, [])
    _save(draw_curves(entries), output / "report.png")
    print(f"  written   {from_here(output)}/report.csv, report.md, report.png")


def tabulate(entries: Sequence[Entry], kind: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and a row of text for each entry."""
    settings = list(dict.fromkeys(key for entry in entries for key in entry.settings))
    metrics = list(dict.fromkeys(entry.run.metric[0] for entry in entries if entry.run and entry.run.metric[0]))
    tested = [f"test/{name}" for name in ("acc", "loss")]
    tested = [name for name in tested if any(entry.run and name in entry.run.metrics for entry in entries)]
    best = [f"best {name}" for name in metrics]
    columns = [kind, *settings, "status", *best, *(["epoch"] if best else []), *tested, "seconds", "directory", "error"]
    rows = []
    for entry in entries:
        found = entry.run.metrics if entry.run else {}
        values = [
            f"{entry.best[0]:.5g}" if entry.best and entry.run and entry.run.metric[0] == name else ""
            for name in metrics
        ]
        epoch = [f"{entry.best[1]:.0f}" if entry.best else ""] if best else []
        numbers = [f"{found[name]:.5g}" if name in found else "" for name in tested]
        took = "" if entry.duration is None else f"{entry.duration:.1f}"
        own = [entry.settings.get(key, "") for key in settings]
        rows.append(
            [entry.name, *own, entry.status, *values, *epoch, *numbers, took, from_here(entry.directory), entry.error]
        )
    return columns, rows


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
    return dict(sorted(groups.items(), key=lambda pair: statistics.mean(_values(pair[1])), reverse=largest_first))


def _values(entries: Iterable[Entry]) -> list[float]:
    return [entry.best[0] for entry in entries if entry.best]


def _means(groups: dict[tuple[tuple[str, str], ...], list[Entry]]) -> list[str]:
    """Return a line for each group: mean and standard deviation over its seeds."""
    lines = []
    for settings, entries in groups.items():
        values = _values(entries)
        said = brief(" ".join(f"{key}={value}" for key, value in settings)) or "all"
        spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
        lines.append(f"  mean      {said}  {statistics.mean(values):.5g}{spread}  (n = {len(values)})")
    return lines


def _advice(
    sweep_dir: Path, entries: Sequence[Entry], means: dict[tuple[tuple[str, str], ...], list[Entry]]
) -> list[str]:
    """Return what to know and type next: the failures, the best job, how to go on."""
    lines = []
    for entry in entries:
        if entry.status == "failed":
            log = next(entry.directory.glob("*.log"), entry.directory)
            said = brief(" ".join(f"{key}={value}" for key, value in entry.settings.items()))
            lines.append(f"  failed    job {entry.name} {said}: {entry.error}; see {from_here(log)}")
    done = [entry for entry in entries if entry.best and entry.status == "completed"]
    metrics = list(dict.fromkeys(entry.run.metric[0] for entry in done if entry.run))
    for metric in metrics:
        best = next(entry for entry in done if entry.run and entry.run.metric[0] == metric)
        if means:  # not the luckiest seed of all, but the best of those that are best on average
            best = next(iter(means.values()))[0]
        by = f"   (by {metric})" if len(metrics) > 1 else ""
        arguments = shlex.join(best.run.record.get("overrides", [])) if best.run else ""
        lines.append(f"  the best  backlit-evaluate run={as_value(best.directory)}{by}")
        lines.append(f"  again     backlit-train {arguments}")
    recorded = read_sweep(sweep_dir)["jobs"]
    open_jobs = len(recorded) - sum(entry.status in ("completed", "running") for entry in entries)
    if recorded and open_jobs:
        lines.append(f"  go on     backlit-train -m resume={from_here(sweep_dir)}   ({open_jobs} not completed)")
    lines.append(f"  curves    tensorboard --logdir {from_here(sweep_dir)}")
    return lines


def as_value(path: Path) -> str:
    """Return a path as a value of a Hydra override that may be typed in the working directory."""
    typed = shlex.split(from_here(path))[0]
    is_plain = all(character.isalnum() or character in "/-+._" for character in typed)
    return typed if is_plain else shlex.quote(quoted(typed))


def _show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; what the terminal is too narrow for is in the file."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    shown = [index for index, name in enumerate(columns) if name not in ("directory", "error")]
    for index in shown:
        table.add_column(columns[index], justify="left" if index == 0 else "right", overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*(brief(row[index]) for index in shown))
    text = io.StringIO()
    # A file or a pipe has no width.
    Console(file=text, width=get_console().width if get_console().is_terminal else 1000).print(table)
    print("\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip()))
    if len(rows) > MOST_ROWS:
        print(f"  and {len(rows) - MOST_ROWS} more, in the file")


def _write_tables(directory: Path, name: str, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    _write(directory / f"{name}.csv", text.getvalue())

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"

    table = line(columns) + line("---" for _ in columns) + "".join(line(row) for row in rows)
    below = "\n```\n" + "\n".join(note.strip() for note in notes) + "\n```\n" if notes else ""
    _write(directory / f"{name}.md", table + below)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text)


# Drawing


def _save(figure: "Figure", path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _numbers(values: Iterable[str]) -> list[float] | None:
    """Return values as numbers, None if one is none."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def wants_log(numbers: Sequence[float]) -> bool:
    """Tell whether values ask for a logarithmic axis: all positive, over more than a decade."""
    return len(numbers) > 1 and min(numbers) > 0 and max(numbers) / min(numbers) > 10


def draw_sweep(entries: Sequence[Entry]) -> "Figure":
    """Draw the optimised metric against what was varied; seeds are averaged, failures are left out."""
    from matplotlib.figure import Figure

    done = [entry for entry in entries if entry.best and entry.run]
    # Of several metrics, the one of the best-ranked run: others are not to be compared with it.
    done = [entry for entry in done if entry.run and done[0].run and entry.run.metric == done[0].run.metric]
    keys = list(dict.fromkeys(key for entry in done for key in entry.settings))
    axes_keys = [key for key in keys if key not in SEEDS] or keys
    run = done[0].run
    assert run is not None
    name = f"best {run.metric[0]}"
    if len(axes_keys) == 2:
        figure = Figure(figsize=(7, 5), layout="constrained")
        _draw_map(figure.subplots(), done, axes_keys[0], axes_keys[1], name)
        return figure
    panels = axes_keys or [""]
    figure = Figure(figsize=(max(6, 4 * len(panels)), 4.5), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_curve(axes, done, key, name, is_alone=len(panels) == 1)
    return figure


def _groups(done: Sequence[Entry], keys: Sequence[str]) -> dict[tuple[str, ...], list[float]]:
    """Return the best values of the runs that have the same values of some keys."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for entry in done:
        groups.setdefault(tuple(entry.settings.get(key, "") for key in keys), []).extend(_values([entry]))
    return groups


def _in_order(values: Iterable[str]) -> list[str]:
    """Return distinct values, numbers by size, others as they came."""
    distinct = list(dict.fromkeys(values))
    numbers = _numbers(distinct)
    return distinct if numbers is None else [value for _, value in sorted(zip(numbers, distinct, strict=True))]


def _draw_curve(axes: "Axes", done: Sequence[Entry], key: str, name: str, *, is_alone: bool) -> None:
    """Draw the metric against one key: mean and standard deviation where it repeats, points if others vary too."""
    groups = _groups(done, [key])
    labels = _in_order(label for (label,) in groups)
    means = [statistics.mean(groups[(label,)]) for label in labels]
    deviations = [statistics.stdev(group) if len(group := groups[(label,)]) > 1 else 0 for label in labels]
    numbers = _numbers(labels)
    places: Sequence[float] = numbers if numbers else range(len(labels))
    if not is_alone:
        for label, place in zip(labels, places, strict=True):
            axes.plot([place] * len(groups[(label,)]), groups[(label,)], "o", color="C0", alpha=0.6)
    elif any(deviations):
        axes.errorbar(places, means, yerr=deviations, marker="o", capsize=3, label="mean ± standard deviation")
        for label, place in zip(labels, places, strict=True):
            values = groups[(label,)]
            axes.plot([place] * len(values), values, ".", color="grey", alpha=0.6)
        axes.legend()
    else:
        axes.plot(places, means, marker="o", linestyle="-" if numbers else "none")
    if numbers is None:
        axes.set_xticks(list(places), labels, rotation=30, ha="right")
    elif wants_log(numbers):
        axes.set_xscale("log")
    if wants_log([value for group in groups.values() for value in group]):
        axes.set_yscale("log")
    axes.set_xlabel(key or "run")
    axes.set_ylabel(name)
    axes.grid(alpha=0.3)


def _draw_map(axes: "Axes", done: Sequence[Entry], across: str, down: str, name: str) -> None:
    """Draw the metric over two keys as a heat map, with its values."""
    from matplotlib.colors import LogNorm, Normalize

    groups = _groups(done, [across, down])
    columns, rows = _in_order(x for x, _ in groups), _in_order(y for _, y in groups)
    cells = {(x, y): statistics.mean(values) for (x, y), values in groups.items()}
    grid = [[cells.get((x, y), math.nan) for x in columns] for y in rows]
    norm = LogNorm() if wants_log(list(cells.values())) else Normalize()
    image = axes.imshow(grid, aspect="auto", origin="lower", cmap="viridis", norm=norm)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            if (x, y) in groups:
                values = groups[(x, y)]
                text = f"{cells[x, y]:.4g}" + (f"\n± {statistics.stdev(values):.2g}" if len(values) > 1 else "")
                colour = "white" if float(norm(cells[x, y])) < 0.5 else "black"
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    axes.figure.colorbar(image, ax=axes, label=name)


def draw_curves(entries: Sequence[Entry]) -> "Figure":
    """Draw the curves of runs over each other, the best `MOST_CURVES` of them, the best on top."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    drawable = [entry for entry in entries if entry.run and entry.run.rows]
    shown = drawable[:MOST_CURVES]
    found = {name for entry in shown if entry.run for row in entry.run.rows for name in row}
    names: list[str] = [name for name in ("train/loss", "val/loss", "val/acc") if name in found]
    names += [entry.run.metric[0] for entry in shown[:1] if entry.run and entry.run.metric[0] in found - {*names}]
    figure = Figure(figsize=(5 * max(1, len(names)), 4.5), layout="constrained")
    colours = colormaps["tab10" if len(shown) <= 10 else "viridis"]
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
        lowest: list[float] = []
        for rank, entry in reversed(list(enumerate(shown))):
            assert entry.run is not None
            points = [(row["step"], row[name]) for row in entry.run.rows if name in row]
            if not points:
                continue
            # The end of viridis is too bright for white paper.
            colour = colours(rank if len(shown) <= 10 else 0.85 * rank / len(shown))
            marker = "o" if len(points) <= 10 else ""
            axes.plot(
                *zip(*points, strict=True), color=colour, linewidth=1, marker=marker, markersize=3, label=_short(entry)
            )
            lowest += [value for _, value in points]
        if name.endswith("loss") and wants_log([value for value in lowest if math.isfinite(value)] or [1]):
            axes.set_yscale("log")
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    if len(shown) <= 10:
        # A run need not have all the metrics.
        found_in = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes)
        legend = {label: handle for pairs in found_in for handle, label in pairs}
        labels = [label for label in map(_short, shown) if label in legend]
        figure.legend([legend[label] for label in labels], labels, loc="outside lower center", ncols=2, fontsize=8)
    else:
        figure.suptitle(f"the best {len(shown)} of {len(drawable)} runs with curves, the best darkest")
    return figure


def _short(entry: Entry) -> str:
    said = brief(" ".join(f"{key}={value}" for key, value in entry.settings.items()))
    return (said if 0 < len(said) < 80 else entry.name)[:80]


# The command


def main() -> None:
    """Run ``backlit-report``."""
    parser = argparse.ArgumentParser(
        prog="backlit-report",
        description="Sums up a sweep (sweep.csv, sweep.md, sweep.png in its directory), or compares runs and sweeps.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a sweep, a run, or a directory of them")
    parser.add_argument(
        "--output", type=Path, help="directory of a comparison's files, by default outputs/reports/<date>_<time>"
    )
    arguments = parser.parse_args()
    try:
        report(arguments.paths, arguments.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def report(paths: Sequence[Path], output: Path | None = None) -> None:
    """Sum up a sweep, or compare runs.

    Args:
        paths: One sweep's directory; or any directories with runs in or below them.
        output: Where a comparison is written; None for a new directory under ``outputs/reports``.

    Raises:
        ValueError: If there is no run.
    """
    for path in paths:
        if not path.is_dir():
            raise ValueError(
                f"PATH must be a directory, got {path}, which {'is a file' if path.exists() else 'does not exist'}"
            )
    if (
        len(paths) == 1
        and output is None
        and any((paths[0] / name).exists() for name in ("sweep.json", "multirun.yaml"))
    ):
        sum_up(paths[0])
        return
    entries, problems = find_runs(paths)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not entries:
        there = sorted(path.name for parent in paths for path in parent.iterdir())
        listed = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "") if there else "nothing"
        raise ValueError(f"no run.json in or below {', '.join(map(str, paths))}; there is {listed}")
    compare(entries, output or Path("outputs", "reports", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"))


if __name__ == "__main__":
    main()
