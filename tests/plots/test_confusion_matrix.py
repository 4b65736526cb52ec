import torch

from backlit.plots.confusion_matrix import draw_confusion_matrix


def test_the_confusion_matrix_counts() -> None:
    probabilities = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 2, 2, 2]), 3).float()
    figure = draw_confusion_matrix(probabilities, torch.tensor([0, 1, 0, 2, 2, 1]), ["a", "b", "c"])
    (axes,) = figure.axes
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "1", (1, 0): "1", (1, 1): "1", (2, 1): "1", (2, 2): "2"}
    assert axes.get_title() == "4 of 6 right"
