"""TensorBoard: its files, and what a person sees in a running one."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from backlit.loggers.tensorboard import TensorBoardLogger
from tests.conftest import RunCommand
from tests.helpers.commands import QUICK


class Board:
    """A running TensorBoard."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **question: Any) -> Any:
        data = json.dumps(question).encode() if question else None
        request = Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "outputs"), "--port", "0"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--reload_interval", "1"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        urls = (re.search(r"http://127\S+", line) for line in process.stderr)
        yield Board(next(match[0] for match in urls if match))
        process.terminate()


def test_tensorboard_lists_a_sweep_with_its_statuses_and_metrics(run_command: RunCommand, board: Board) -> None:
    done = run_command("backlit-train", "-m", *QUICK, "optimizer=adam,sgd", "optimizer.lr=0.1,1e30")
    assert done.returncode == 1, done.stderr
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    deadline = time.monotonic() + 60
    while True:
        question = {"experimentName": "", "allowedStatuses": statuses, "startIndex": 0, "sliceSize": 9, "colParams": []}
        groups = board.ask("data/plugin/hparams/session_groups", **question).get("sessionGroups", [])
        found = {group["sessions"][0]["name"].split("/")[-2]: group for group in groups}
        ended = [group["sessions"][0].get("endTimeSecs") for group in groups]
        if (len(found) == 4 and all(ended)) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    names = [
        f"{n}_optimizer.lr_{lr}+optimizer_{o}"
        for n, o, lr in [(0, "adam", "0.1"), (1, "adam", "1e+30"), (2, "sgd", "0.1"), (3, "sgd", "1e+30")]
    ]
    assert sorted(found) == names
    shown = {name: group["sessions"][0]["status"] for name, group in found.items()}
    assert shown == dict(zip(names, ["STATUS_SUCCESS", "STATUS_FAILURE"] * 2, strict=True))
    # Every hyperparameter that a job has is a column, those that only one optimizer has, too.
    experiment = board.ask("data/plugin/hparams/experiment", experimentName="")
    columns = {info["name"] for info in experiment["hparamInfos"]}
    assert {name for group in groups for name in group["hparams"]} <= columns
    assert {"optimizer/lr", "optimizer/betas", "optimizer/momentum", "seed"} <= columns
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {"val/loss_best", "test/acc", "test/loss"} <= metrics
    values = {value["name"]["tag"]: value["value"] for value in found[names[2]]["metricValues"]}
    saved = json.loads(next(Path("outputs").glob(f"*/sweeps/*/{names[2]}/metrics.json")).read_text())["metrics"]
    for name in ("val/loss_best", "test/acc", "test/loss"):
        assert values[name] == pytest.approx(saved[name])
    # The curves are curves: nothing was added to them for the table's sake.
    tags = board.ask("data/plugin/scalars/tags")
    (job,) = [run for run in tags if names[2] in run]
    assert {tag.split("/")[0] for tag in tags[job]} <= {"train", "val", "test", "lr", "epoch"}


def test_tensorboard_keeps_one_event_file(tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path))
    for stage in ("fit", "test"):
        logger.log_metrics({f"{stage}/loss": 1.0}, 1)
        logger.finalize("success")
    logger.end_session("completed")
    events, end = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.suffix == ".end")
    assert end.suffix == ".end"
    assert events.stat().st_size > end.stat().st_size > 0
