import json
from importlib import metadata
from pathlib import Path

import torch

from backlit.rerun import circumstances, differences
from tests.conftest import RunCommand

QUICK = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=20", "trainer.max_epochs=2", "callbacks=none"]


def test_a_run_is_repeated_bit_for_bit(run_command: RunCommand, tmp_path: Path) -> None:
    assert run_command("backlit-train", *QUICK, "hydra.run.dir=first", "seed=0").returncode == 0
    # A run that has gone on is repeated from its beginning.
    assert run_command("backlit-train", "resume=first", "trainer.max_epochs=3").returncode == 0
    done = run_command("backlit-train", "rerun=first")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bit for bit as first: weights, metrics, curves" in done.stdout
    (again,) = (tmp_path / "outputs" / "points" / "runs").iterdir()
    told = json.loads((again / "rerun.json").read_text())
    assert told == {"of": str(tmp_path / "first"), "same": True, "different": [], "circumstances": []}
    record = json.loads((again / "run.json").read_text())
    assert record["seed"] == 0
    assert record["attempts"] == []
    assert record["threads"] >= 1


def test_what_is_not_the_same_is_told(run_command: RunCommand, tmp_path: Path) -> None:
    assert run_command("backlit-train", *QUICK, "hydra.run.dir=first").returncode == 0
    record = json.loads(Path("first/run.json").read_text())
    record["versions"]["torch"] = "1.0"
    Path("first/run.json").write_text(json.dumps(record))
    done = run_command("backlit-train", "rerun=first", "optimizer.lr=0.2", "hydra.run.dir=second")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "not the same as first: 4 of 4 weight tensors, by at most " in done.stdout
    assert f"changed   torch 1.0 → {metadata.version('torch')}; optimizer.lr=0.1 → 0.2" in done.stdout
    assert json.loads(Path("second/rerun.json").read_text())["same"] is False
    # The largest difference, independently.
    one, two = (torch.load(f"{run}/weights.pth", weights_only=True) for run in ("first", "second"))
    largest = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert differences(Path("first"), Path("second"))[0].endswith(f" {largest:.3g}")
    assert len(circumstances(Path("first"), Path("second"))) == 2


def test_a_bad_rerun_is_one_line(run_command: RunCommand) -> None:
    for name in ("damaged", "begun"):
        Path(name).mkdir()
        Path(name, "run.json").write_text(json.dumps({"status": "completed", "arguments": QUICK}))
    Path("damaged", "metrics.json").write_text('{"metrics": {"test/acc": 1.0}}')
    for name in ("metrics.csv", "weights.pth"):
        Path("damaged", name).write_text("step,epoch")
    for arguments, message in {
        ("rerun=nowhere",): "rerun must be a run directory or 'latest', got nowhere, which does not exist",
        ("-m", "rerun=latest"): "rerun= must be without -m",
        ("resume=latest", "rerun=latest"): "resume= and rerun= must not be together",
        ("rerun=damaged",): "rerun=damaged: damaged/weights.pth must be weights that torch.load(",
        ("rerun=begun",): "rerun=begun: there must be a metrics.json to compare with, but begun has none",
    }.items():
        done = run_command("backlit-train", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {message}")
        assert done.stderr.count("\n") == 1
