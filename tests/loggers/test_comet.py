"""Comet, offline: what it gets of a run, read back from its files."""

import io
import json
import random
import socket
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from backlit.loggers import CometLogger
from tests.conftest import CallCommand, RunCommand
from tests.helpers.commands import QUICK
from tests.helpers.runs import csv_curve, only_run, only_sweep, read_record, saved_metrics

comet_ml = pytest.importorskip("comet_ml")
OFFLINE = ["logger=[comet,csv]", "logger.comet.offline=true"]
pytestmark = pytest.mark.slow


class CometFile:
    """The content of a file of an offline experiment."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}
        self.path, self.about = path, json.loads(self.files["experiment.json"])
        self.messages = [json.loads(line) for line in self.files["messages.json"].splitlines()]
        self.others = {payload["key"]: payload["value"] for payload in self.all("log_other")}
        self.parameters = {
            payload["param"]["paramName"]: payload["param"]["paramValue"] for payload in self.all("parameter_msg")
        }

    def all(self, kind: str) -> list[Any]:
        """Return what messages of a kind contain."""
        return [message["payload"] for message in self.messages if message["type"] == kind]

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Return optimizer step and value of a metric."""
        metrics = [payload["metric"] for payload in self.all("metric_msg")]
        return [(metric["step"], metric["metricValue"]) for metric in metrics if metric["metricName"] == name]


def comet_files() -> list[CometFile]:
    return [CometFile(path) for path in Path("outputs/comet").glob("*.zip")]


def test_comet_gets_a_run_whole_and_a_resumed_one_is_the_same(call_command: CallCommand) -> None:
    pictures = "+callbacks.pictures={_target_: backlit.callbacks.Pictures, directory: plots}"
    done = call_command("backlit-train", *QUICK, *OFFLINE, pictures, "optimizer.lr=0.05")
    assert done.returncode == 0, done.stderr
    run = only_run()
    (found,) = comet_files()
    key = found.about["offline_id"]
    assert f"comet upload outputs/comet/{key}*.zip" in done.stdout
    assert read_record(run)["loggers"] == {"comet": key}
    assert found.about["project_name"] == "points"
    assert set(found.about["tags"]) == {"points", "mlp"}
    assert (found.others["Name"], found.others["status"]) == (run.name, "completed")
    assert "group" not in found.others
    assert (found.parameters["optimizer/lr"], found.parameters["model/hidden_sizes"]) == (0.05, "[4]")
    for name in ("train/loss", "val/acc", "test/acc"):
        assert found.curve(name) == csv_curve(run, name), name
    for name, value in saved_metrics(run).items():
        assert found.curve(name)[-1][1] == pytest.approx(value), name
    shown = {upload["additional_params"]["figName"]: upload for upload in found.all("file_upload")}
    for name in ("confusion_matrix", "boundary"):
        assert shown[name]["additional_params"]["step"] == 40
        with (
            Image.open(io.BytesIO(found.files[shown[name]["file_path"]])) as image,
            Image.open(f"plots/{name}.png") as plot,
        ):
            assert numpy.array_equal(numpy.asarray(image.convert("RGB")), numpy.asarray(plot.convert("RGB"))), name
    more = ["trainer.max_epochs=3", "packages=[lightning]"]
    done = call_command("backlit-train", "resume=latest", pictures, *more)
    assert done.returncode == 0, done.stderr
    (again,) = (file for file in comet_files() if file.path != found.path)
    assert (again.about["offline_id"], again.parameters["trainer/max_epochs"]) == (key, 3)
    assert {file.about["resume_strategy"] for file in (found, again)} == {"get_or_create"}
    assert again.curve("val/acc") == csv_curve(run, "val/acc")[2:]


def test_the_jobs_of_a_sweep_have_its_name_and_a_failed_one_has_failed(run_command: RunCommand) -> None:
    done = run_command("backlit-train", "-m", *QUICK, *OFFLINE, "optimizer.lr=0.1,1e30", "data.passes_per_epoch=1")
    assert done.returncode == 1, done.stderr
    found = comet_files()
    assert {file.others["group"] for file in found} == {only_sweep().name}
    statuses = {file.others["Name"]: file.others["status"] for file in found}
    assert statuses == {"0_optimizer.lr_0.1": "completed", "1_optimizer.lr_1e+30": "failed"}


def test_comet_leaves_the_random_numbers_of_the_run(tmp_path: Path) -> None:
    random.seed(0)
    expected = random.random()
    random.seed(0)
    logger = CometLogger("names", offline=True, save_dir=str(tmp_path / "a" / "b"))
    logger.log_metrics({"x": float("nan"), "epoch": 2.0}, step=3)
    logger.log_hyperparams({"a": {"b": None}})
    assert random.random() == expected
    logger.end_session("failed")
    (path,) = (tmp_path / "a" / "b").iterdir()
    found = CometFile(path)
    (metric,) = (payload["metric"] for payload in found.all("metric_msg") if payload["metric"]["metricName"] == "x")
    assert (metric["step"], metric["epoch"], str(metric["metricValue"]).lower()) == (3, 2, "nan")
    assert (found.parameters["a/b"], found.others["status"]) == ("None", "failed")


def test_what_cannot_begin_is_one_line(monkeypatch: pytest.MonkeyPatch, in_tmp_path: Path) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(in_tmp_path))
    monkeypatch.delenv("COMET_API_KEY", raising=False)
    with pytest.raises(ValueError, match="Comet needs an API key: type comet login, or add"):
        CometLogger("points")
    monkeypatch.setenv("COMET_API_KEY", "a" * 25)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/clientlib/"
        monkeypatch.setenv("COMET_URL_OVERRIDE", address)
        with pytest.raises(ValueError, match=f"Comet does not answer at {address} .*logger.comet.offline=true"):
            CometLogger("points")
    with pytest.raises(ValueError, match="experiment_key must be 32 to 50 letters and digits, got a"):
        CometLogger("points", offline=True, experiment_key="a")
    assert list(in_tmp_path.iterdir()) == []
