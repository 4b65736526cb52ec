"""A comparison of any runs: for each task a ranked table, and the curves of its runs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backlit.runs.files import atomic_write, new_directory, remove_directories
from backlit.sweeps.entries import Entry, differing_settings, follow_interpolations
from backlit.sweeps.picture import write_picture
from backlit.sweeps.ranking import rank_entries
from backlit.sweeps.table import markdown, print_table, tabulate, write_csv
from backlit.text import printable, shell_path

# A longer label would leave no room for the curves.
_MAX_LABEL_CHARACTERS = 80


@dataclass
class _Task:
    """The runs of one task.

    Args:
        title: The task and the number of its runs.
        common: What was typed for all its runs, and what differs from the other tasks: ``key=value``.
        entries: The runs, the best first, each with its number in its name and the settings that vary.
    """

    title: str
    common: list[str]
    entries: list[Entry]


def compare_runs(entries: Sequence[Entry], output: Path) -> None:
    """Print a table of the runs of each task; write the tables and the curves into a new directory.

    Args:
        entries: The runs, with all settings.
        output: The directory; if it exists, ``output_2`` and so on.

    Raises:
        OSError: If a file cannot be written.
    """
    entries = rank_entries(entries)
    tasks = _by_task(entries)
    for number, task in enumerate(tasks):
        print("\n" * (number > 0), end="")
        print_table(task.title, *tabulate(task.entries, "run"), common=task.common)
    made: list[Path] = []
    output = new_directory(output, made)
    try:
        _write(output, entries, tasks)
    except OSError:
        remove_directories(made)
        raise
    written = sorted(path.name for path in output.iterdir())
    print(printable(f"  written   {shell_path(output / written[0])}, {', '.join(written[1:])}"))


def _by_task(entries: Sequence[Entry]) -> list[_Task]:
    """Return the tasks of runs, in the order of their names."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.settings.get("task_name", ""), []).append(entry)
    same = [_same_settings(group) for group in groups.values()]
    shared = set.intersection(*(set(settings) for settings in same)) - {"task_name"}
    between = differing_settings([{key: settings[key] for key in settings if key in shared} for settings in same])
    tasks = []
    for (name, group), others in zip(groups.items(), between, strict=True):
        typed = [set((entry.run and entry.run.record.get("overrides")) or ()) for entry in group]
        common = dict.fromkeys(sorted(set.intersection(*typed)))
        hidden = {"tags", *(argument.partition("=")[0] for argument in common)}
        shown = {key: value for key, value in _with_classes(others).items() if value != "None" and key not in hidden}
        common |= dict.fromkeys(f"{key}={value}" for key, value in shown.items())
        varying = _without_own_defaults(_varying_settings(group), set[str]().union(*typed))
        numbered = [
            replace(entry, name=f"{number} {entry.name}", settings=_with_classes(settings))
            for number, (entry, settings) in enumerate(zip(group, varying, strict=True), start=1)
        ]
        count = f"{len(group)} run{'s' * (len(group) != 1)}"
        tasks.append(_Task(f"{name}: {count}" if name else count, list(common), numbered))
    return sorted(tasks, key=lambda task: task.title)


def _same_settings(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the settings that have the same value in all entries."""
    settings = [follow_interpolations(entry.settings) for entry in entries]
    return {key: value for key, value in settings[0].items() if all(other.get(key) == value for other in settings)}


def _with_classes(settings: dict[str, str]) -> dict[str, str]:
    """Return settings with the names of classes: ``optimizer`` is ``SGD`` where `_target_` is ``torch.optim.SGD``."""
    targets = {key: key.endswith("._target_") for key in settings}
    return {
        key.removesuffix("._target_"): value.rpartition(".")[2] if targets[key] else value
        for key, value in settings.items()
    }


def _varying_settings(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """Return the settings in which entries differ, without those that only follow another one."""
    raw = differing_settings([entry.settings for entry in entries])
    followed = [follow_interpolations(entry.settings) for entry in entries]
    return differing_settings(
        [{key: every[key] for key in settings if key in every} for every, settings in zip(followed, raw, strict=True)]
    )


def _without_own_defaults(settings: Sequence[dict[str, str]], typed: Collection[str]) -> list[dict[str, str]]:
    """Return settings without those that only say that some runs have a part which others lack: the part says it.

    Args:
        settings: The settings in which runs differ.
        typed: What was typed for one of the runs.
    """
    chosen = {override.partition("=")[0].lstrip("+") for override in typed}
    own = set()
    for key in {key for each in settings for key in each}:
        values = {each.get(key) for each in settings}
        if len(values - {None}) == 1 and not key.endswith("_target_") and key not in chosen:
            own.add(key)
    return [{key: value for key, value in each.items() if key not in own} for each in settings]


def _write(output: Path, entries: Sequence[Entry], tasks: Sequence[_Task]) -> None:
    """Write the tables and the curves."""
    from backlit.plots.overlaid_curves import draw_overlaid_curves

    varying = [
        replace(entry, settings=settings) for entry, settings in zip(entries, _varying_settings(entries), strict=True)
    ]
    write_csv(output / "report.csv", *tabulate(varying, "run"))
    groups = []
    sections = []
    for task in tasks:
        common = f"all with `{printable(' '.join(task.common)).replace('`', chr(39))}`\n\n" if task.common else ""
        sections.append(f"## {printable(task.title)}\n\n{common}{markdown(*tabulate(task.entries, 'run'), [])}\n")
        runs = [(entry, entry.run) for entry in task.entries if entry.run and entry.run.rows]
        if runs:
            curves = [(_curve_label(entry), run.rows) for entry, run in runs]
            groups.append((task.title, curves, runs[0][1].metric[0]))
    with atomic_write(output / "report.md") as temporary:
        text = "".join([*sections, "![the curves](report.png)\n"])
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    write_picture(output / "report.png", lambda: draw_overlaid_curves(groups))


def _curve_label(entry: Entry) -> str:
    """Return a run's number and settings, or its name if it has none or too many for a legend."""
    label = f"{entry.name.split(' ')[0]} {entry.label}"
    if not entry.settings or len(label) > _MAX_LABEL_CHARACTERS:
        label = entry.name
    # A directory's name may be no UTF-8, which fonts need.
    return label[:_MAX_LABEL_CHARACTERS].encode(errors="backslashreplace").decode()
