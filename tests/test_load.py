"""A run directory as Python objects; a stranger's runs no code."""

import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from backlit import load_run, load_sweep
from backlit.load import read_config
from backlit.runs.run import read_rows
from backlit.training.train import train
from tests.conftest import Compose
from tests.helpers.commands import QUICK
from tests.helpers.corruptions import run_corruptions
from tests.helpers.sweeps import write_sweep

# Hydra would resolve it on instantiation, after the config was checked.
ESCAPED = r'\${oc.decode:"{_target_: torch.load, f: bomb.pt, weights_only: false}"}'


def change_config(run: Path, **nodes: object) -> None:
    path = run / ".hydra" / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(path), nodes), path)


def test_a_run_is_loaded_as_python_objects(points_run: Path) -> None:
    loaded = load_run("latest")
    assert loaded.directory == points_run.relative_to(Path.cwd())
    assert loaded.checkpoint == loaded.directory / "checkpoints" / "best.ckpt"
    assert loaded.config.optimizer.lr == 0.1
    # The network by hand, from the plain weights.
    weights = torch.load(points_run / "weights.pth", weights_only=True)
    points = torch.tensor([[0.3, -0.2], [0.5, 0.6]])
    hidden = torch.relu(points @ weights["fc1.weight"].T + weights["fc1.bias"])
    logits = (hidden @ weights["fc2.weight"].T + weights["fc2.bias"]).squeeze(1)
    assert not loaded.model.training
    assert torch.allclose(loaded.model(points), logits, atol=1e-6)
    loaded.datamodule.setup("test")
    assert len(loaded.datamodule.test_set) == 10_000  # type: ignore[attr-defined]


def test_the_metrics_of_a_loaded_run_are_those_of_its_file(points_run: Path) -> None:
    metrics = load_run(points_run).metrics
    rows = metrics if isinstance(metrics, list) else [row.dropna().to_dict() for _, row in metrics.iterrows()]
    assert len(rows) > 2
    assert rows == read_rows(points_run / "metrics.csv")


def test_a_checkpoint_is_chosen_by_name_or_by_path(points_run: Path) -> None:
    assert load_run(points_run, checkpoint="last").checkpoint == points_run / "checkpoints" / "last.ckpt"
    file = points_run / "checkpoints" / "previous.ckpt"
    assert load_run(file).checkpoint == file
    (points_run / "checkpoints" / "best.ckpt").unlink()
    assert load_run(points_run).checkpoint == points_run / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16), ("bf16-mixed", torch.float32)]
)
def test_weights_keep_the_dtype_of_the_training(precision: str, dtype: torch.dtype, composed: Compose) -> None:
    train(composed(*QUICK, "logger=csv", f"trainer.precision={precision}"))
    assert {parameter.dtype for parameter in load_run().model.parameters()} == {dtype}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"model": {"_target_": "os.system", "command": "touch exploded"}}, "model of this run wants os.system"),
        ({"model": {"_target_": "subprocess.run", "args": "touch exploded"}}, "model of this run wants subprocess.run"),
        ({"data": {"_target_": "torch.load", "f": "bomb.pt"}}, "data of this run wants torch.load, which is no part"),
        ({"data": {"_target_": "torch.hub.load"}}, "data of this run wants torch.hub.load, which is no part"),
        (
            {"model": {"_target_": "backlit.sweeps.job_process.subprocess.Popen"}},
            "wants backlit.sweeps.job_process.subprocess.Popen, which is no",
        ),
        ({"model": {"activation": {"_target_": "os.system"}}}, "model.activation of this run wants os.system"),
        (
            {"model": {"hidden_sizes": [{"_target_": "evil.run"}]}},
            r"model.hidden_sizes\[0\] of this run wants evil.run",
        ),
        ({"what": "os.system", "model": {"_target_": "${what}"}}, "model of this run wants os.system"),
        ({"model": {"_target_": "backlit.data.PointsDataModule"}}, "model._target_ must be a LightningModule"),
        ({"model": {"hidden_sizes": ESCAPED}}, "model of the run's config must have no interpolation within another"),
        ({"model": {"hidden_sizes": "\\\\" + ESCAPED}}, "model of the run's config must have no interpolation within"),
        ({"data": {"weights": "${oc.create:x}"}}, "data.weights must have no interpolation of the kind 'oc.create'"),
        ({"data": {"weights": ESCAPED}}, "data of the run's config must have no interpolation within another"),
    ],
)
def test_a_config_from_a_stranger_runs_no_code(
    node: dict[str, object], message: str, points_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("evil.py").write_text("open('exploded', 'w')")
    monkeypatch.syspath_prepend(Path.cwd())
    change_config(points_run, **node)
    with pytest.raises(ValueError, match=message):
        load_run(points_run)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "run must be a run directory, got nowhere, which has no .hydra/config.yaml"),
        ("latest", "run=latest: there is no run with a checkpoint in "),
        ("alone.ckpt", "run must be a file in the checkpoints/ of a run directory, got alone.ckpt"),
    ],
)
def test_anything_but_a_run_is_rejected(name: str, message: str) -> None:
    Path("alone.ckpt").touch()
    with pytest.raises(ValueError, match=message):
        load_run(name)


def test_a_checkpoint_that_the_run_does_not_have_is_rejected(points_run: Path) -> None:
    with pytest.raises(ValueError, match=r"has \(best, last, previous\), got first$"):
        load_run(points_run, checkpoint="first")
    with pytest.raises(ValueError, match="checkpoint must be null when run is a file, got best and "):
        load_run(points_run / "checkpoints" / "last.ckpt", checkpoint="best")


def test_weights_that_do_not_fit_the_config_are_rejected_by_name(points_run: Path) -> None:
    change_config(points_run, model={"hidden_sizes": [5]})
    with pytest.raises(ValueError, match=r"net.fc1.weight has shape \(5, 2\) in the model, \(4, 2\) in the checkpoint"):
        load_run(points_run)


def test_weights_that_diverged_are_rejected_by_name(points_run: Path) -> None:
    path = points_run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["net.fc2.bias"] *= torch.nan
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"best.ckpt must have finite weights, but net.fc2.bias has nan or infinity"):
        load_run(points_run)


def test_a_file_of_another_program_is_rejected(points_run: Path) -> None:
    torch.save({"epoch": 3}, points_run / "checkpoints" / "best.ckpt")
    with pytest.raises(ValueError, match="must be a checkpoint with a state_dict, but is another program's file"):
        load_run(points_run)


@pytest.mark.parametrize(("text", "reason"), [("a: [", "got: while parsing"), ("seed: 1", "got something else")])
def test_a_config_that_cannot_be_read_is_rejected(text: str, reason: str, points_run: Path) -> None:
    (points_run / ".hydra" / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"config.yaml must be .*{reason}"):
        load_run(points_run)


@pytest.mark.parametrize("name", ["model", "data"])
def test_an_argument_that_the_class_does_not_have_is_reported(name: str, points_run: Path) -> None:
    change_config(points_run, **{name: {"nonsense": 3}})
    with pytest.raises(ValueError, match=rf"^{name} of the run's config cannot be built: .*__init__.*'nonsense'$"):
        load_run(points_run)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_partial_": True}, "must be a LightningModule, got "),
        ({"_partial_": 3}, "cannot be built: "),
        ({"_recursive_": "x"}, "cannot be built: "),
    ],
)
def test_a_key_of_hydras_own_is_no_way_around(node: dict[str, object], message: str, points_run: Path) -> None:
    change_config(points_run, model=node)
    with pytest.raises(ValueError, match=rf"^model of the run's config {message}"):
        load_run(points_run)


def test_a_key_that_is_gone_is_ignored_at_the_value_that_changed_nothing(images_run: Path) -> None:
    change_config(images_run, data={"stratified": False})
    assert load_run(images_run).checkpoint == images_run / "checkpoints" / "best.ckpt"
    change_config(images_run, data={"stratified": True})
    with pytest.raises(ValueError, match=r"data of the run's config cannot be built: .*'stratified'"):
        load_run(images_run)


def test_a_broken_config_is_one_line(tmp_path: Path) -> None:
    for number, (name, corrupt) in enumerate(run_corruptions().items()):
        directory = tmp_path / str(number)
        (directory / ".hydra").mkdir(parents=True)
        if name.startswith((".hydra", "config.yaml")):
            corrupt(directory)
            with pytest.raises(ValueError, match=r"config\.yaml must be ") as caught:
                read_config(directory)
            assert str(caught.value).isprintable(), name


def test_a_sweep_is_a_table_with_the_best_job_first(points_run: Path) -> None:
    jobs = {
        "optimizer.lr=0.1 model=mlp": [5.0, 4.0],
        "optimizer.lr=1e-3 model=mlp": [3.0, 2.0],
        "optimizer.lr=1 model=mlp": [],
    }
    directory = write_sweep(Path("outputs/points/sweeps/2026-01-01_00-00-00"), jobs)
    sweep = load_sweep()
    assert sweep.directory == directory
    assert sweep.directories == [directory / name for name in "102"]
    done = {"status": "completed", "epoch": 2, "seconds": 1.5, "error": None, "test/acc": 0.5}
    values = [{"best": loss, "val/loss": loss, "val/loss_best": loss} for loss in (2.0, 4.0)]
    waiting = {"status": "waiting", "best": None, "epoch": None, "seconds": None, "error": None}
    assert sweep.rows == [
        {"job": 1, "optimizer.lr": 0.001, **done, **values[0]},
        {"job": 0, "optimizer.lr": 0.1, **done, **values[1]},
        {"job": 2, "optimizer.lr": 1, **waiting},
    ]
    table = sweep.table
    assert table == sweep.rows if isinstance(table, list) else list(table["job"]) == [1, 0, 2]
    shutil.rmtree(directory / "1")
    shutil.copytree(points_run, directory / "1")
    best = load_sweep(directory).load_best()
    assert best.directory == directory / "1"
    assert best.results == load_run(points_run).results
    (directory / "0" / "run.json").write_text("[")
    with pytest.warns(UserWarning, match="run.json"):
        assert [row["job"] for row in load_sweep(directory).rows] == [1, 2]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("latest", "there is no sweep in "),
        ("nowhere", "sweep must be the directory of a sweep or 'latest', got nowhere, which has no sweep.json"),
    ],
)
def test_what_is_no_sweep_is_rejected(sweep: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        load_sweep(sweep)
    waiting = load_sweep(write_sweep(Path("sweep"), {"optimizer.lr=1": [], "optimizer.lr=2": []}))
    with pytest.raises(ValueError, match="must have a completed job, but has none"):
        waiting.load_best()
    with pytest.raises(ValueError, match=r"got sweep, which is a sweep: load_sweep\('sweep'\).load_best\(\)$"):
        load_run("sweep")
    with pytest.raises(ValueError, match="packages"):
        load_sweep("sweep", packages="my_package")
