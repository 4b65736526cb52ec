from collections.abc import Sequence
from typing import Any

from backlit.plots.overlaid_curves import MAX_CURVES, draw_overlaid_curves


def rows(values: Sequence[float], name: str = "val/loss") -> list[dict[str, float]]:
    return [{"step": 10 * (epoch + 1), "epoch": epoch, name: value} for epoch, value in enumerate(values)]


def test_the_best_curve_is_drawn_last_and_named_first() -> None:
    figure = draw_overlaid_curves([("two", [("lr=2", rows([0.3, 0.2, 0.1])), ("lr=1", rows([0.5, 0.4]))], "val/loss")])
    axes: Any = figure.axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[10, 0.5], [20, 0.4]],
        [[10, 0.3], [20, 0.2], [30, 0.1]],
    ]
    assert [text.get_text() for text in figure.subfigs[0].legends[0].get_texts()] == ["lr=2", "lr=1"]


def test_each_metric_has_a_panel_even_if_a_run_lacks_it() -> None:
    figure = draw_overlaid_curves([("", [("a", rows([0.3])), ("b", rows([0.9], name="val/auc"))], "val/auc")])
    assert [axes.get_ylabel() for axes in figure.axes] == ["val/loss", "val/auc"]
    assert [len(axes.lines) for axes in figure.axes] == [1, 1]


def test_many_curves_are_limited_to_the_best_and_counted() -> None:
    count = MAX_CURVES + 5
    figure = draw_overlaid_curves([("many", [(str(rank), rows([rank])) for rank in range(count)], "val/loss")])
    lines: Any = figure.axes[0].lines
    drawn = sorted(line.get_ydata()[0] for line in lines)
    assert drawn == list(range(MAX_CURVES))
    assert figure.subfigs[0].get_suptitle() == f"many, the best {MAX_CURVES}"
    scale: Any = figure.axes[1]
    assert scale.get_ylabel() == "number of the run in the table"
    assert scale.get_yticks().tolist() == [1, *range(9, 100, 9)]


def test_each_group_has_a_row_and_its_own_metrics() -> None:
    groups = [("a", [("1", rows([0.3]))], "val/loss"), ("b", [("1", rows([0.3], name="val/acc"))], "val/acc")]
    figure = draw_overlaid_curves(groups)
    assert [part.get_suptitle() for part in figure.subfigs] == ["a", "b"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["val/loss", "val/acc"]


def test_without_curves_the_picture_is_empty() -> None:
    assert [len(axes.lines) for axes in draw_overlaid_curves([]).axes] == [0]
