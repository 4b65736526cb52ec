import csv
from pathlib import Path

from backlit.loggers import MetricsCSV, TensorBoardLogger


def test_metrics_csv_has_a_row_a_record_at_any_moment(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    records = [
        ({"train/loss": 0.5, "epoch": 0}, 1),
        ({"train/loss": 0.25, "epoch": 0}, 2),
        ({"val/acc": 1.0, "epoch": 1}, 2),
    ]
    for number, (metrics, step) in enumerate(records, start=1):
        logger.log_metrics(metrics, step)
        with (tmp_path / "metrics.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == number
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,epoch,train/loss,val/acc",
        "1,0,0.5,",
        "2,0,0.25,",
        "2,1,,1.0",
    ]


def test_tensorboard_keeps_one_event_file(tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path))
    for stage in ("fit", "test"):
        logger.log_metrics({f"{stage}/loss": 1.0}, 1)
        logger.finalize("success")
    logger.end_session("completed")
    events, end = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.suffix == ".end")
    assert end.suffix == ".end"
    assert events.stat().st_size > end.stat().st_size > 0
