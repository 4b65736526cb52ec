import csv
import resource
from pathlib import Path

import pytest

from backlit.loggers.metrics_csv import MetricsCSV


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


def test_a_resumed_run_keeps_the_records_up_to_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,train/loss\n1,0,0.5\n2,0,0.25\n3,0,0.125\n")
    logger = MetricsCSV(path, steps_done=2)
    assert [row["step"] for row in logger.rows_before] == [1, 2]
    logger.log_metrics({"train/loss": 0.75, "epoch": 0}, 3)
    assert path.read_text().splitlines() == ["step,epoch,train/loss", "1,0,0.5", "2,0,0.25", "3,0,0.75"]


def test_a_record_of_the_last_step_is_kept_if_it_precedes_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,val/acc,test/acc\n1,0,0.5,\n2,1,0.75,\n2,1,,0.25\n1,1,0.5,\n3,1,0.5,\n")
    logger = MetricsCSV(path, steps_done=2, rows_done=2)
    assert [(row["step"], row.get("val/acc")) for row in logger.rows_before] == [(1, 0.5), (2, 0.75), (1, 0.5)]
    assert MetricsCSV(path, steps_done=2).rows_before[2] == {"step": 2, "epoch": 1, "test/acc": 0.25}


def test_a_row_that_a_full_disk_cuts_is_taken_away(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"epoch": 0, "val/loss": 0.123456}, step=1)
    before = (tmp_path / "metrics.csv").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 6, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            logger.log_metrics({"epoch": 1, "val/loss": 0.654321}, step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "metrics.csv").read_bytes() == before
