"""A repeated run is compared bit for bit, and the differences are named."""

import json
from importlib import metadata
from pathlib import Path

import pytest
import torch

from backlit.runs.compare import check_comparable, find_circumstances, find_differences
from tests.conftest import CallCommand
from tests.helpers.runs import change_record, read_record


def only_rerun() -> Path:
    (record,) = Path("outputs/points/runs").glob("*/rerun.json")
    return record.parent


@pytest.mark.slow
def test_a_run_is_repeated_bit_for_bit(points_run: Path, call_command: CallCommand) -> None:
    # A run that was resumed is repeated from its beginning.
    change_record(points_run, attempts=[])
    assert call_command("backlit-train", "resume=latest", "trainer.max_epochs=3").returncode == 0
    assert len(read_record(points_run)["attempts"]) == 1
    done = call_command("backlit-train", f"rerun={points_run}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"bit-identical to outputs/points/runs/{points_run.name}: weights, metrics, curves" in done.stdout
    found = json.loads((only_rerun() / "rerun.json").read_text())
    assert found == {"of": str(points_run), "same": True, "different": [], "circumstances": []}
    record = read_record(only_rerun())
    assert record["attempts"] == []
    assert record["threads"] >= 1


def test_the_differences_of_a_repetition_are_named(points_run: Path, call_command: CallCommand) -> None:
    change_record(points_run, versions=read_record(points_run)["versions"] | {"torch": "1.0"})
    done = call_command("backlit-train", f"rerun={points_run}", "optimizer.lr=0.2", "hydra.run.dir=second")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert f"differs from outputs/points/runs/{points_run.name}: 4 of 4 weight tensors, by at most " in done.stdout
    assert f"changed   torch 1.0 → {metadata.version('torch')}; optimizer.lr=0.1 → 0.2" in done.stdout
    assert json.loads(Path("second/rerun.json").read_text())["same"] is False
    # The largest difference, independently.
    one, two = (torch.load(run / "weights.pth", weights_only=True) for run in (points_run, Path("second")))
    largest = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert find_differences(points_run, Path("second"))[0].endswith(f" {largest:.3g}")
    assert len(find_circumstances(points_run, Path("second"))) == 2


def test_a_run_equals_its_copy(points_run: Path, trained_points: Path) -> None:
    check_comparable(points_run)
    assert find_differences(points_run, trained_points) == []
    assert find_circumstances(points_run, trained_points) == []


def test_one_bit_of_a_weight_is_a_difference(points_run: Path, trained_points: Path) -> None:
    weights = torch.load(points_run / "weights.pth", weights_only=True)
    weights["fc1.bias"].view(torch.int32)[0] ^= 1
    torch.save(weights, points_run / "weights.pth")
    (line,) = find_differences(trained_points, points_run)
    assert line.startswith("1 of 4 weight tensors, by at most ")
    torch.save({"other": weights["fc1.bias"]}, points_run / "weights.pth")
    assert find_differences(trained_points, points_run) == ["the weights have other names, shapes or dtypes"]


def test_metrics_and_curves_are_compared(points_run: Path, trained_points: Path) -> None:
    content = json.loads((points_run / "metrics.json").read_text())
    content["metrics"]["test/acc"] = 0.0
    (points_run / "metrics.json").write_text(json.dumps(content))
    lines = (points_run / "metrics.csv").read_text().splitlines()
    (points_run / "metrics.csv").write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    found = find_differences(trained_points, points_run)
    assert len(found) == 2
    assert found[0].startswith("test/acc was ")
    assert found[1] == "the curves in metrics.csv"


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "weights.pth"])
def test_a_run_without_results_cannot_be_compared(name: str, points_run: Path) -> None:
    (points_run / name).unlink()
    with pytest.raises(ValueError, match=f"must have a {name} to compare with"):
        check_comparable(points_run)
