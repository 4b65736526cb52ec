import torch

from backlit.plots.mistakes import draw_mistakes


def test_mistakes_are_sorted_by_confidence() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    images = torch.zeros(4, 1, 3, 3, dtype=torch.uint8)
    figure = draw_mistakes(images, torch.tensor([1, 1, 0, 1]), probabilities, ["zero", "one"], count=4)
    (axes,) = figure.axes
    assert "3 mistakes in 4" in axes.get_title()
    assert [text.get_text() for text in axes.texts] == [
        "one → zero (0.900)",
        "zero → one (0.800)",
        "one → zero (0.600)",
    ]
