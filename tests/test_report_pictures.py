from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from backlit.entries import Entry, ranked, sweep_entries
from backlit.report_pictures import draw_curves, draw_sweep, wants_log
from tests.test_report import make_sweep


def entries_of(tmp_path: Path, jobs: dict[str, list[float]]) -> list[Entry]:
    return ranked(sweep_entries(make_sweep(tmp_path / "sweep", jobs))[0])


def axes_of(figure: Figure) -> Any:
    return figure.axes[0]


def test_the_picture_of_one_number(tmp_path: Path) -> None:
    axes = axes_of(draw_sweep(entries_of(tmp_path, {"lr=0.001": [0.5], "lr=0.1": [0.4], "lr=0.01": [0.3]})))
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[0.001, 0.5], [0.01, 0.3], [0.1, 0.4]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "best val/loss")


def test_the_picture_averages_seeds(tmp_path: Path) -> None:
    jobs = {f"lr={lr} seed={seed}": [float(lr + seed)] for lr in (1, 2) for seed in (0, 1, 2)}
    axes = axes_of(draw_sweep(entries_of(tmp_path, jobs)))
    (container,) = axes.containers
    assert container.lines[0].get_xydata().tolist() == [[1, 2], [2, 3]]
    (bars,) = container.lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1, 3], [2, 4]]  # ± stdev of 0, 1, 2


def test_the_picture_of_two_is_a_map(tmp_path: Path) -> None:
    jobs = {f"lr={lr} width={width}": [float(lr * width)] for lr in (1, 10) for width in (2, 3, 5)}
    axes = axes_of(draw_sweep(entries_of(tmp_path, jobs)))
    (image,) = axes.images
    assert image.get_array().tolist() == [[2, 20], [3, 30], [5, 50]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10"]
    assert {text.get_text() for text in axes.texts} == {"2", "20", "3", "30", "5", "50"}


def test_the_picture_of_words_and_of_three(tmp_path: Path) -> None:
    axes = axes_of(draw_sweep(entries_of(tmp_path, {"optimizer=sgd": [0.5], "optimizer=adam": [0.4]})))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["adam", "sgd"]
    figure = draw_sweep(entries_of(tmp_path / "three", {"a=1 b=1 c=1": [1.0], "a=2 b=2 c=2": [2.0]}))
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b", "c"]


def test_curves_lie_over_each_other(tmp_path: Path) -> None:
    axes = axes_of(draw_curves(entries_of(tmp_path, {"lr=1": [0.5, 0.4], "lr=2": [0.3, 0.2, 0.1]})))
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[10, 0.5], [20, 0.4]],
        [[10, 0.3], [20, 0.2], [30, 0.1]],
    ]


def test_log_axes() -> None:
    assert wants_log([1e-4, 1e-3, 1e-2])
    assert not wants_log([1, 2, 3])
    assert not wants_log([0, 1000])
    assert not wants_log([5])
