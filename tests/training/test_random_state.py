"""The random generators of a process are restored exactly."""

import json
import random

import numpy
import torch

from backlit.models import BinaryClassifier
from backlit.training.random_state import rank_state, restore_rank_state


def draw() -> tuple[float, float, float, float]:
    return random.random(), random.gauss(0, 1), float(numpy.random.normal()), float(torch.rand(()))


def test_the_same_numbers_follow_a_restored_state() -> None:
    model = BinaryClassifier()
    draw()  # a gauss is drawn in pairs: the second one is part of the state
    state = rank_state(model)
    expected = [draw() for _ in range(3)]
    assert [draw() for _ in range(3)] != expected
    restore_rank_state(model, state)
    assert [draw() for _ in range(3)] == expected


def test_a_state_is_plain_data() -> None:
    state = rank_state(BinaryClassifier())
    json.dumps([state["python"], state["numpy"]])
    assert state["torch"].dtype == torch.uint8


def test_what_has_been_measured_is_restored() -> None:
    steps = [torch.tensor([0.5, 0.25]), torch.tensor([0.9, 0.1, 0.8]), torch.tensor([1, 0, 1])]
    measured = {"steps": steps, "sizes": [2, 1], "unrecorded": torch.tensor([0.25]), "recorded_at": 7}
    model = BinaryClassifier()
    restore_rank_state(model, rank_state(model) | {"measured": measured})
    found = rank_state(model)["measured"]
    assert [part.tolist() for part in found["steps"]] == [part.tolist() for part in steps]
    assert found["unrecorded"].tolist() == [0.25]
    assert (found["sizes"], found["recorded_at"]) == ([2, 1], 7)
