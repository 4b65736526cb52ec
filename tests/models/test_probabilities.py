import torch

from backlit.data import MNISTDataModule, PointsDataModule
from backlit.models import BinaryClassifier, MulticlassClassifier
from backlit.models.probabilities import class_probabilities, predict_probabilities, probabilities


def test_pixels_are_normalised_and_logits_become_a_softmax() -> None:
    images = torch.randint(256, (7, 1, 28, 28), dtype=torch.uint8)
    model = MulticlassClassifier(hidden_sizes=[6]).eval()
    found = probabilities(model, MNISTDataModule(mean=0.2, std=0.4), images)
    weights = {name: value.double() for name, value in model.net.state_dict().items()}
    hidden = ((images.flatten(1) / 255.0 - 0.2) / 0.4).double() @ weights["fc1.weight"].T + weights["fc1.bias"]
    powers = (hidden.relu() @ weights["fc2.weight"].T + weights["fc2.bias"]).exp()
    assert torch.allclose(found.double(), powers / powers.sum(1, keepdim=True), atol=1e-6)


def test_a_network_in_bfloat16_gives_probabilities_in_float32() -> None:
    model = BinaryClassifier().bfloat16()
    points = torch.rand(5, 2, dtype=torch.float64)
    found = probabilities(model, PointsDataModule(), points)
    assert found.dtype == torch.float32
    assert torch.equal(found, model(points.bfloat16()).float().sigmoid())
    double = BinaryClassifier().double()
    assert torch.equal(probabilities(double, PointsDataModule(), points), double(points).sigmoid())


def test_predictions_depend_neither_on_the_batch_size_nor_on_dropout() -> None:
    data = PointsDataModule(train_size=50)
    data.setup("fit")
    model = BinaryClassifier(dropout=0.5).train()
    found = predict_probabilities(model, data, data.train_set.inputs, batch_size=7)
    assert model.training
    assert not found.requires_grad
    with torch.no_grad():
        expected = model.eval()(data.train_set.inputs.float()).sigmoid()
    assert torch.allclose(found, expected)


def test_two_classes_have_probabilities_that_sum_to_one() -> None:
    assert class_probabilities(torch.tensor([0.25, 1.0])).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    three = torch.tensor([[0.2, 0.3, 0.5]])
    assert torch.equal(class_probabilities(three), three)
