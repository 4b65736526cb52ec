from typing import Any

from matplotlib.figure import Figure

from backlit.plots.sweep import draw_sweep, wants_log_scale


def first_axes(figure: Figure) -> Any:
    return figure.axes[0]


def test_one_number_is_a_curve_in_its_order() -> None:
    axes = first_axes(draw_sweep([{"lr": "0.001"}, {"lr": "0.1"}, {"lr": "0.01"}], [0.5, 0.4, 0.3], "best val/loss"))
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[0.001, 0.5], [0.01, 0.3], [0.1, 0.4]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "best val/loss")


def test_seeds_are_averaged() -> None:
    pairs = [(lr, seed) for lr in (1, 2) for seed in (0, 1, 2)]
    settings = [{"lr": str(lr), "seed": str(seed)} for lr, seed in pairs]
    axes = first_axes(draw_sweep(settings, [lr + seed for lr, seed in pairs], "loss", averaged=["seed"]))
    (container,) = axes.containers
    assert container.lines[0].get_xydata().tolist() == [[1, 2], [2, 3]]
    (bars,) = container.lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1, 3], [2, 4]]  # ± stdev of 0, 1, 2


def test_a_sweep_of_seeds_alone_is_drawn_against_the_seed() -> None:
    axes = first_axes(draw_sweep([{"seed": "0"}, {"seed": "1"}], [0.5, 0.4], "loss", averaged=["seed"]))
    assert axes.get_xlabel() == "seed"
    assert axes.lines[0].get_xydata().tolist() == [[0, 0.5], [1, 0.4]]


def test_two_keys_are_a_heat_map() -> None:
    pairs = [(lr, width) for lr in (1, 10) for width in (2, 3, 5)]
    settings = [{"lr": str(lr), "width": str(width)} for lr, width in pairs]
    axes = first_axes(draw_sweep(settings, [lr * width for lr, width in pairs], "loss"))
    (image,) = axes.images
    assert image.get_array().tolist() == [[2, 20], [3, 30], [5, 50]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10"]
    assert {text.get_text() for text in axes.texts} == {f"{value}.0000" for value in (2, 20, 3, 30, 5, 50)}


def test_words_are_ticks() -> None:
    axes = first_axes(draw_sweep([{"optimizer": "adam"}, {"optimizer": "sgd"}], [0.4, 0.5], "loss"))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["adam", "sgd"]


def test_three_keys_are_a_panel_each() -> None:
    figure = draw_sweep([{"a": "1", "b": "1", "c": "1"}, {"a": "2", "b": "2", "c": "2"}], [1.0, 2.0], "loss")
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b", "c"]


def test_a_single_run_without_settings_is_a_point() -> None:
    axes = first_axes(draw_sweep([{}], [0.5], "loss"))
    assert axes.get_xlabel() == "run"
    assert axes.lines[0].get_xydata().tolist() == [[0, 0.5]]


def test_a_logarithmic_scale_is_for_positive_values_over_a_decade() -> None:
    assert wants_log_scale([1e-4, 1e-3, 1e-2])
    assert wants_log_scale([0.01, 0.1])
    assert not wants_log_scale([1, 2, 3])
    assert not wants_log_scale([0, 1000])
    assert not wants_log_scale([5])
