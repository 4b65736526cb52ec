import torch

from backlit.inference.predictor import class_columns


def test_several_classes_give_the_class_and_the_runner_up() -> None:
    columns = class_columns(
        torch.tensor([[0.1, 0.6543219, 0.25], [0.5, 0.3, 0.2]], dtype=torch.float64), ["a", "b", "c"]
    )
    assert columns == [
        {"label": 1, "class": "b", "probability": 0.6543219, "runner_up": "c", "runner_up_probability": 0.25},
        {"label": 0, "class": "a", "probability": 0.5, "runner_up": "b", "runner_up_probability": 0.3},
    ]


def test_two_classes_give_the_probability_of_class_1() -> None:
    probabilities = torch.tensor([[0.25, 0.75], [0.9, 0.1]], dtype=torch.float64)
    assert class_columns(probabilities, []) == [
        {"class": 1, "probability_of_1": 0.75},
        {"class": 0, "probability_of_1": 0.1},
    ]
    assert class_columns(probabilities, ["no", "yes"])[0] == {"label": 1, "class": "yes", "probability_of_yes": 0.75}
