import pytest
import torch

from backlit.plots.mistakes import draw_mistakes


def test_mistakes_are_sorted_by_confidence() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    images = torch.zeros(4, 1, 3, 3, dtype=torch.uint8)
    figure = draw_mistakes(images, torch.tensor([1, 1, 0, 1]), probabilities, ["zero", "one"], count=4)
    (axes,) = figure.axes
    assert figure.get_suptitle() == "3 mistakes in 4:\ntrue → predicted (probability)"
    assert [text.get_text() for text in axes.texts] == [
        "one → zero (0.900)",
        "zero → one (0.800)",
        "one → zero (0.600)",
    ]


@pytest.mark.parametrize(
    ("wrong", "title", "page"),
    [
        (0, "0 mistakes in 30", (3, 0.4)),
        (1, "1 mistake in 30:", (2.7, 2.2)),
        (2, "2 mistakes in 30:", (3.2, 2.2)),
        (30, "The 25 most confident of 30 mistakes in 30:", (7.8, 8.2)),
    ],
)
def test_the_page_is_as_large_as_the_mistakes_need(wrong: int, title: str, page: tuple[float, float]) -> None:
    targets = (torch.arange(30) < wrong).long()
    probabilities = torch.tensor([[0.9, 0.1]]).repeat(30, 1)
    figure = draw_mistakes(torch.zeros(30, 1, 28, 28), targets, probabilities, ["0", "1"])
    assert figure.get_suptitle().split("\n")[0] == title
    assert figure.get_size_inches().tolist() == pytest.approx(page, abs=0.1)
    left, _, width, _ = figure.axes[0].get_position().bounds
    assert left == pytest.approx(1 - left - width)
