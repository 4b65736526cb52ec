"""MLflow on a database in a file: what it gets of a run, read back by its own client."""

import logging
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from backlit.loggers import MLFlowLogger
from backlit.loggers.session import hyperparameters
from backlit.runs.files import new_directory
from backlit.text import flatten
from backlit.training.train import train
from tests.conftest import CallCommand, Compose, RunCommand
from tests.helpers.callbacks import signaller
from tests.helpers.commands import QUICK
from tests.helpers.runs import csv_curve, only_run, only_sweep, read_record, saved_metrics

mlflow = pytest.importorskip("mlflow")
DATABASE = Path("outputs/mlflow.db")
pytestmark = [
    pytest.mark.slow,
    # MLflow's own, about what it is built on.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs; MLflow takes seconds to make one."""
    path: Path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def uri(empty_database: Path, in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the default's database in the working directory, under an address of its own: MLflow keeps files open."""
    DATABASE.parent.mkdir()
    DATABASE.write_bytes(empty_database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{DATABASE.absolute()}")
    return f"sqlite:///{DATABASE.absolute()}"


def runs() -> list[Any]:
    """Return MLflow's runs of points, the oldest first."""
    experiment = client().get_experiment_by_name("points")
    return list(client().search_runs([experiment.experiment_id], order_by=["start_time"]))


def client() -> Any:
    return mlflow.MlflowClient(f"sqlite:///{DATABASE.absolute()}")


def curve(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client().get_metric_history(run_id, name)]


def test_mlflow_gets_a_run_whole_and_a_resumed_one_is_the_same(call_command: CallCommand, composed: Compose) -> None:
    pictures = "+callbacks.pictures={_target_: backlit.callbacks.Pictures, directory: plots}"
    command = ["backlit-train", *QUICK, "logger=[mlflow,csv]", pictures]
    done = call_command(*command, "optimizer.lr=0.05")
    assert done.returncode == 0, done.stderr
    run = only_run()
    (found,) = runs()
    assert (found.info.status, found.info.run_name) == ("FINISHED", run.name)
    assert read_record(run)["loggers"] == {"mlflow": found.info.run_id}
    listed = flatten(hyperparameters(composed(*QUICK, "optimizer.lr=0.05")), "/")
    assert found.data.params == {name: str(value) for name, value in listed.items()}
    assert found.data.params["optimizer/lr"] == "0.05"
    for name in ("train/loss", "val/acc", "test/acc"):
        assert curve(found.info.run_id, name) == csv_curve(run, name), name
    for name, value in saved_metrics(run).items():
        assert found.data.metrics[name] == pytest.approx(value), name
    images = [Path(file.path).name for file in client().list_artifacts(found.info.run_id, "images")]
    for name in ("confusion_matrix", "boundary"):
        assert any(image.startswith(f"{name}+step+40+") and image.endswith(".png") for image in images), images
    more = ["trainer.max_epochs=3", "packages=[lightning]", pictures]
    done = call_command("backlit-train", "resume=latest", *more)
    assert done.returncode == 0, done.stderr
    (again,) = runs()
    assert (again.info.run_id, again.info.status) == (found.info.run_id, "FINISHED")
    assert curve(found.info.run_id, "val/acc") == csv_curve(run, "val/acc")
    # MLflow's parameters stay as they were.
    assert (again.data.params["trainer/max_epochs"], again.data.tags["trainer/max_epochs"]) == ("2", "3")


def test_the_jobs_of_a_sweep_have_its_name_and_a_failed_one_has_failed(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    done = run_command("backlit-train", "-m", *QUICK, "logger=mlflow", "optimizer.lr=0.1,1e30")
    assert done.returncode == 1, done.stderr
    found = runs()
    assert {run.data.tags["sweep"] for run in found} == {only_sweep().name}
    statuses = {run.info.run_name: run.info.status for run in found}
    assert statuses == {"0_optimizer.lr_0.1": "FINISHED", "1_optimizer.lr_1e+30": "FAILED"}


def test_two_processes_are_one_run(run_command: RunCommand) -> None:
    done = run_command("backlit-train", *QUICK, "logger=mlflow", "trainer=ddp_cpu", "data.batch_size=50")
    assert done.returncode == 0, done.stderr
    (found,) = runs()
    assert found.info.status == "FINISHED"
    assert curve(found.info.run_id, "val/acc") == csv_curve(only_run(), "val/acc")


def test_a_run_that_a_signal_ends_is_killed_and_a_lost_one_begins_anew(
    uri: str, composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    ended = [*QUICK, "logger=mlflow", signaller("on_train_batch_end", signal.SIGTERM, step=25)]
    directory = new_directory(Path("run"))
    with pytest.raises(SystemExit):
        train(composed(*ended), directory)
    (found,) = runs()
    assert found.info.status == "KILLED"
    assert curve(found.info.run_id, "val/acc") == csv_curve(directory, "val/acc")
    client().delete_run(found.info.run_id)
    resumed = [*QUICK, "logger=mlflow", "logger.mlflow.run_id=00000000000000000000000000000000"]
    with caplog.at_level(logging.WARNING):
        train(composed(*resumed, f"ckpt_path={directory}/checkpoints/last.ckpt"), directory)
    assert f"MLflow has no run {'0' * 32} in {uri}: a new one begins" in caplog.text
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_names_and_values_that_mlflow_does_not_take_are_made_to_fit(uri: str) -> None:
    logger = MLFlowLogger(uri, "names", run_name="x", tags={"none": None, "number": 3})
    logger.log_hyperparams({"a": {"b": "x" * 7000}, "c": None})
    logger.log_metrics({"lr-Adam/pg1 @x": 1.5}, step=3)
    logger.end_session("failed")
    assert logger.version is not None
    found = client().get_run(logger.version)
    assert (len(found.data.params["a/b"]), found.data.params["c"]) == (6000, "None")
    assert found.data.metrics == {"lr-Adam/pg1 _x": 1.5}
    assert (found.data.tags["number"], found.info.status) == ("3", "FAILED")
    assert "none" not in found.data.tags


def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"tracking_uri must be the address of a server, got {address}: "):
            MLFlowLogger(address, "points")
    with pytest.raises(ValueError, match="tracking_uri must be the address of a server, got http://x:99999: "):
        MLFlowLogger("http://x:99999", "points")


def test_a_rejected_command_makes_no_database(call_command: CallCommand) -> None:
    DATABASE.unlink()
    done = call_command("backlit-train", *QUICK, "logger=mlflow", "optimizer.lr=nan")
    assert done.returncode == 2
    assert list(Path("outputs").iterdir()) == []
