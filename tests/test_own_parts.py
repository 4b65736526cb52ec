"""A model, data and an experiment of a user, and a LightningModule that knows nothing of backlit."""

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import CallCommand
from tests.helpers.own_package import PACKAGE, write_configs


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    (tmp_path / "my_package.py").write_text(PACKAGE)
    write_configs(tmp_path / "my_configs")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("foreign", [False, True])
def test_own_parts_are_trained_and_evaluated(foreign: bool, own: Path, call_command: CallCommand) -> None:
    overrides = ["model=foreign", "optimized_metric=val_loss", "optimized_mode=min"] if foreign else []
    done = call_command("backlit-train", "--config-dir", "my_configs", "experiment=mine", *overrides)
    assert done.returncode == 0, done.stderr
    (run,) = (own / "outputs" / "mine" / "runs").iterdir()
    saved = json.loads((run / "metrics.json").read_text())["metrics"]
    name = "test_loss" if foreign else "test/loss"
    assert f"{saved[name]:.4f}" in done.stdout
    # No run directory may name code of its own, unless its reader trusts it.
    rejected = call_command("backlit-evaluate", "run=latest", "trainer=cpu")
    assert rejected.returncode == 2
    assert rejected.stderr.endswith("if you trust that code: packages=[my_package]\n")
    judged = call_command("backlit-evaluate", "run=latest", "trainer=cpu", "packages=[my_package]", "resamples=0")
    assert judged.returncode == 0, judged.stderr
    assert f"{saved[name]:.4f}" in judged.stdout
    assert (run / "plots" / "curves.png").exists()
    assert (run / "plots" / "mistakes.png").exists() != foreign
