import pytest

from backlit.sweeps.edge import Edge, Tried, find_edges, tried_in_grid
from backlit.sweeps.entries import Entry
from tests.helpers.sweeps import make_entry


def jobs(key: str, *values: float | str) -> list[Entry]:
    return [make_entry(None, **{key: f"{value}"}) for value in values]


@pytest.mark.parametrize(
    ("values", "best", "is_upper", "beyond"),
    [
        ((0.001, 0.01, 0.1), 0.1, True, [1, 10]),
        ((0.001, 0.01, 0.1), 0.001, False, [1e-4, 1e-5]),
        ((0, 0.2, 0.4), 0.4, True, [0.6, 0.8]),
        ((16, 48, 80), 16, False, []),
        ((25, 50, 100), 25, False, [12, 6]),
        ((1, 2, 3), 3, True, [4, 5]),
        ((-0.5, 0, 0.5), -0.5, False, [-1, -1.5]),
    ],
)
def test_the_best_value_at_the_edge_is_found(
    values: tuple[float, ...], best: float, is_upper: bool, beyond: list[float]
) -> None:
    entries = jobs("lr", *values)
    entry = next(entry for entry in entries if float(entry.settings["lr"]) == best)
    (edge,) = find_edges(entry, tried_in_grid(entries))
    assert (edge.key, edge.best, edge.is_upper) == ("lr", best, is_upper)
    assert edge.beyond() == pytest.approx(beyond)


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
    assert (
        find_edges(next(entry for entry in entries if entry.settings[key] == f"{best}"), tried_in_grid(entries)) == []
    )


def test_values_beyond_are_short() -> None:
    assert Edge("lr", 1.0, Tried([0.0316, 0.1, 0.316, 1.0], False, True, False)).beyond() == [3.2, 10]


@pytest.mark.parametrize(
    ("tried", "best", "distribution"),
    [
        (Tried([0.001, 0.1], True, True, False), 0.095, "tag(log, interval(0.032, 1))"),
        (Tried([0.001, 0.1], True, True, False), 0.001, "tag(log, interval(0.0001, 0.003))"),
        (
            Tried([0.001, 0.1], True, True, False),
            0.0125,
            None,
        ),  # the middle of the interval, however far trials reached
        (Tried([0.0, 1.0], True, False, False), 0.98, "interval(0.73, 2)"),
        (Tried([0.0, 1.0], True, False, False), 0.01, "interval(0, 0.26)"),
        (Tried([1.0, 8.0], True, False, True), 8, "int(interval(6, 15))"),
        (Tried([16.0, 256.0], True, True, True), 16, "tag(log, int(interval(2, 48)))"),
        (Tried([25.0, 50.0, 100.0], False, True, True), 100, "100,200,400"),
        (Tried([16.0, 48.0, 80.0], False, False, True), 16, ""),
    ],
)
def test_the_edge_of_a_search_is_that_of_what_is_drawn(tried: Tried, best: float, distribution: str | None) -> None:
    edges = find_edges(make_entry(None, lr=f"{best}"), {"lr": tried})
    assert [edge.distribution() for edge in edges] == ([] if distribution is None else [distribution])
