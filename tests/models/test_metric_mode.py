import pytest
import torchmetrics.classification as metrics
from torchmetrics import MeanMetric, MetricCollection

from backlit.models import BinaryClassifier, Classifier, MulticlassClassifier
from backlit.models.metric_mode import metric_mode, usual_mode


@pytest.mark.parametrize("model", [BinaryClassifier(), MulticlassClassifier()])
def test_a_classifiers_metrics_have_torchmetrics_direction(model: Classifier) -> None:
    found = {name: metric_mode(model, f"val/{name}") for name in ("loss", "acc", "f1", "auroc", "ece")}
    assert found == {"loss": "min", "acc": "max", "f1": "max", "auroc": "max", "ece": "min"}
    # A search, which begins before a module is built, comes to the same.
    assert found == {name: usual_mode(f"val/{name}") for name in found}


def test_a_metric_of_a_users_classifier_says_its_direction() -> None:
    names = ("acc", "kappa", "hinge", "mean")
    scores = (metrics.BinaryAccuracy(), metrics.BinaryCohenKappa(), metrics.BinaryHingeLoss(), MeanMetric())
    model = Classifier(BinaryClassifier().net, MetricCollection(dict(zip(names, scores, strict=True))))
    assert metric_mode(model, "val/kappa") == "max"
    assert metric_mode(model, "val/hinge") == "min"
    assert metric_mode(model, "val/mean") is None


@pytest.mark.parametrize(
    ("name", "mode"),
    [("val_loss", "min"), ("val/top5_acc", "max"), ("valid/error", "min"), ("val_score", None), ("lossless", None)],
)
def test_other_metrics_go_by_their_usual_names(name: str, mode: str | None) -> None:
    assert metric_mode(None, name) == usual_mode(name) == mode
