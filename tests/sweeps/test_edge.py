import pytest

from backlit.sweeps.edge import Edge, find_edges
from backlit.sweeps.entries import Entry
from tests.helpers.sweeps import make_entry


def jobs(key: str, *values: float | str) -> list[Entry]:
    return [make_entry(None, **{key: f"{value}"}) for value in values]


@pytest.mark.parametrize(
    ("values", "best", "is_upper", "beyond", "interval"),
    [
        ((0.001, 0.01, 0.1), 0.1, True, [1, 10], "tag(log, interval(0.033, 1))"),
        ((0.001, 0.01, 0.1), 0.001, False, [1e-4, 1e-5], "tag(log, interval(0.0001, 0.003))"),
        ((0, 0.2, 0.4), 0.4, True, [0.6, 0.8], "interval(0.3, 0.8)"),
        ((16, 48, 80), 16, False, [], "16"),
        ((25, 50, 100), 25, False, [12, 6], "25,12,6"),
        ((1, 2, 3), 3, True, [4, 5], "3,4,5"),
        ((-0.5, 0, 0.5), -0.5, False, [-1, -1.5], "interval(-1.5, -0.25)"),
        ((0.01, 0.5, 0.94, 1), 0.94, True, [4.6, 22], "tag(log, interval(0.31, 10))"),  # in a search: near the edge
    ],
)
def test_the_best_value_at_the_edge_is_found(
    values: tuple[float, ...], best: float, is_upper: bool, beyond: list[float], interval: str
) -> None:
    entries = jobs("lr", *values)
    (edge,) = find_edges(entries, next(entry for entry in entries if float(entry.settings["lr"]) == best))
    assert (edge.key, edge.best, edge.is_upper) == ("lr", best, is_upper)
    assert edge.beyond() == pytest.approx(beyond)
    assert edge.distribution() == interval


@pytest.mark.parametrize(
    ("key", "values", "best"),
    [
        ("lr", (0.001, 0.01, 0.1), 0.01),  # in the middle
        ("lr", (0.1, 0.2), 0.2),  # two values have no inside
        ("seed", (0, 1, 2), 2),  # no order
        ("optimizer", ("adam", "sgd", "adamw"), "sgd"),
        ("lr", (0, 0.2, "inf"), 0),
    ],
)
def test_other_values_have_no_edge(key: str, values: tuple[float | str, ...], best: float | str) -> None:
    entries = jobs(key, *values)
    assert find_edges(entries, next(entry for entry in entries if entry.settings[key] == f"{best}")) == []


def test_values_beyond_are_short() -> None:
    assert Edge("lr", 1.0, [0.0316, 0.1, 0.316, 1.0]).beyond() == [3.2, 10]
