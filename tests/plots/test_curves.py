import numpy

from backlit.plots.curves import draw_curves


def test_curves_have_a_point_for_each_record() -> None:
    rows = [
        {"step": 50, "epoch": 0, "train/loss": 0.7},
        {"step": 100, "epoch": 0, "train/loss": 0.5},
        {"step": 100, "epoch": 0, "val/loss": 0.6, "val/acc": 0.8},
    ]
    loss, accuracy = draw_curves(rows).axes
    assert [(line.get_label(), numpy.asarray(line.get_xydata()).tolist()) for line in loss.lines] == [
        ("train/loss", [[50, 0.7], [100, 0.5]]),
        ("val/loss", [[100, 0.6]]),
    ]
    assert [line.get_label() for line in accuracy.lines] == ["val/acc"]


def test_curves_of_a_module_that_names_its_metrics_otherwise() -> None:
    loss, accuracy = draw_curves([{"step": 7, "val_loss": 0.6, "val_acc": 0.8, "train_loss": 0.5}]).axes
    assert [line.get_label() for line in loss.lines] == ["train_loss", "val_loss"]
    assert [line.get_label() for line in accuracy.lines] == ["val_acc"]


def test_a_run_without_records_has_empty_axes() -> None:
    assert [len(axes.lines) for axes in draw_curves([]).axes] == [0, 0]
