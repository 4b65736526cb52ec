"""How a table is ranked: the best run first; with several seeds, the best mean first."""

import statistics
from collections.abc import Iterable, Sequence

from backlit.sweeps.entries import Entry

SEED_KEYS = ("seed", "data.seed")


def rank_entries(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries, the best first.

    Entries with the same optimized metric stay together, completed ones first. Entries without a value of the metric
    come last, in their order.
    """
    entries = list(entries)
    metrics = list(dict.fromkeys(entry.run.metric for entry in entries if entry.run and entry.best))

    def key(entry: Entry) -> tuple[bool, bool, int, float]:
        if entry.best is None or entry.run is None:
            return (True, True, 0, 0)
        value = entry.best[0] if entry.run.metric[1] == "min" else -entry.best[0]
        return (False, entry.status != "completed", metrics.index(entry.run.metric), value)

    return sorted(entries, key=key)


def group_by_settings(entries: Sequence[Entry]) -> dict[tuple[tuple[str, str], ...], list[Entry]]:
    """Return groups of completed entries that differ only in their seeds, by their other settings, the best mean first.

    The result is empty if seeds do not vary, or if there are several optimized metrics.
    """
    completed = [entry for entry in entries if entry.best and entry.status == "completed"]
    is_comparable = len({entry.run.metric for entry in completed if entry.run}) == 1
    if not is_comparable or not any(key in entry.settings for entry in completed for key in SEED_KEYS):
        return {}
    groups: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in completed:
        others = tuple(pair for pair in entry.settings.items() if pair[0] not in SEED_KEYS)
        groups.setdefault(others, []).append(entry)
    is_max_best = completed[0].run is not None and completed[0].run.metric[1] == "max"
    return dict(sorted(groups.items(), key=lambda pair: statistics.mean(best_values(pair[1])), reverse=is_max_best))


def best_entry(entries: Sequence[Entry]) -> Entry | None:
    """Return the best completed entry: of several seeds, the best seed of the settings with the best mean."""
    for group in group_by_settings(entries).values():
        return rank_entries(group)[0]
    return next((entry for entry in rank_entries(entries) if entry.status == "completed" and entry.best), None)


def best_values(entries: Iterable[Entry]) -> list[float]:
    """Return the best value of each entry that has one."""
    return [entry.best[0] for entry in entries if entry.best]
