import numpy

from backlit.plots.search_history import draw_search_history


def test_the_line_is_the_best_completed_value_so_far() -> None:
    values = [
        (0, 3.0, "completed"),
        (1, 0.5, "pruned"),
        (2, 2.0, "completed"),
        (4, 2.5, "completed"),
        (6, 9.0, "failed"),
    ]
    (axes,) = draw_search_history(values, is_max_best=False).axes
    (line,) = axes.lines
    assert numpy.array_equal(line.get_xydata(), [(0, 3), (2, 2), (4, 2), (6, 2)])
    _, labels = axes.get_legend_handles_labels()
    assert labels == ["completed", "pruned", "failed", "best so far"]
    assert axes.get_yscale() == "log"
    (axes,) = draw_search_history(values[:4], is_max_best=True).axes
    assert numpy.array_equal(axes.lines[0].get_ydata(), [3, 3, 3, 3])


def test_without_completed_jobs_there_is_no_line() -> None:
    (axes,) = draw_search_history([(0, 3.0, "pruned")], is_max_best=False).axes
    assert len(axes.lines) == 0
