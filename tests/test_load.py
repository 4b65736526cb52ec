"""What comes of a run's directory, and what must not."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from backlit import load_run
from backlit.load import not_trusted
from backlit.run import read_rows
from backlit.train import train
from tests.conftest import Compose, RunCommand

# Hydra would resolve it when it instantiates, after the config was looked at.
ESCAPED = r'\${oc.create:"{_target_: torch.load, f: bomb.pt, weights_only: false}"}'
TRAVERSED = "../../../tmp/evil"
QUICK = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=10", "trainer.max_epochs=2", "callbacks=none"]


@pytest.fixture
def run(composed: Compose) -> Path:
    train(composed(*QUICK, "logger=csv"))
    (directory,) = Path("outputs/points/runs").iterdir()
    return directory


def test_a_run_as_python_objects(run: Path) -> None:
    loaded = load_run("latest")
    assert loaded.directory == run
    assert loaded.checkpoint == run / "checkpoints" / "best.ckpt"
    assert loaded.config.optimizer.lr == 0.1
    # The network by hand, from the plain weights.
    weights = torch.load(run / "weights.pth", weights_only=True)
    points = torch.tensor([[0.3, -0.2], [0.5, 0.6]])
    hidden = torch.relu(points @ weights["fc1.weight"].T + weights["fc1.bias"])
    logits = (hidden @ weights["fc2.weight"].T + weights["fc2.bias"]).squeeze(1)
    assert not loaded.model.training
    assert torch.allclose(loaded.model(points), logits, atol=1e-6)
    loaded.datamodule.setup("test")
    assert len(loaded.datamodule.test_set) == 10_000  # type: ignore[attr-defined]
    assert [dict(row) for row in loaded.metrics] == read_rows(run / "metrics.csv")
    assert load_run(run, checkpoint="last").checkpoint.name == "last.ckpt"
    assert load_run(run / "checkpoints" / "last.ckpt").checkpoint.name == "last.ckpt"


def test_double_precision_is_kept(composed: Compose) -> None:
    train(composed(*QUICK, "logger=csv", "trainer.precision=64-true"))
    assert load_run().model.dtype == torch.float64


def change(run: Path, **nodes: object) -> None:
    path = run / ".hydra" / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(path), nodes), path)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"model": {"_target_": "os.system", "command": "touch exploded"}}, "model of this run wants os.system"),
        ({"model": {"_target_": "subprocess.run", "args": "touch exploded"}}, "model of this run wants subprocess.run"),
        ({"data": {"_target_": "torch.load", "f": "bomb.pt"}}, "data of this run wants torch.load, which is no part"),
        ({"data": {"_target_": "torch.hub.load"}}, "data of this run wants torch.hub.load, which is no part"),
        ({"model": {"_target_": "backlit.jobs.subprocess.Popen"}}, "wants backlit.jobs.subprocess.Popen, which is no"),
        ({"model": {"activation": {"_target_": "os.system"}}}, "model.activation of this run wants os.system"),
        (
            {"model": {"hidden_sizes": [{"_target_": "evil.run"}]}},
            r"model.hidden_sizes\[0\] of this run wants evil.run",
        ),
        ({"what": "os.system", "model": {"_target_": "${what}"}}, "model of this run wants os.system"),
        ({"model": {"_target_": "backlit.data.PointsDataModule"}}, "model._target_ must be a LightningModule"),
        ({"model": {"hidden_sizes": ESCAPED}}, "model of the run's config must have no interpolation within another"),
        ({"model": {"hidden_sizes": "\\\\" + ESCAPED}}, "model of the run's config must have no interpolation within"),
        ({"data": {"weights": ESCAPED}}, "data of the run's config must have no interpolation within another"),
    ],
)
def test_a_config_from_a_stranger_runs_no_code(node: dict[str, object], message: str, run: Path) -> None:
    Path("evil.py").write_text("open('exploded', 'w')")
    change(run, **node)
    with pytest.raises(ValueError, match=message):
        load_run(run)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+callbacks.x._target_=os.system"], "callbacks.x of this run wants os.system, not backlit's; if you trust"),
        (["optimizer._target_=subprocess.run"], "optimizer of this run wants subprocess.run"),
        (["model._target_=torch.load"], "model of this run wants torch.load, which is no part of a run"),
        (["+callbacks.x={_target_: backlit.train.train}"], "callbacks.x of this run wants backlit.train.train, which"),
        (
            ["+hydra.callbacks.x._target_=os.system"],
            "'+hydra.callbacks.x._target_=os.system' is what this run was started",
        ),
        (["hydra.job_logging.root.level=DEBUG"], "'hydra.job_logging.root.level=DEBUG' is what this run was"),
        (
            ["--config-dir", "theirs"],
            "'--config-dir theirs' is what this run was started with; if you trust it",
        ),
        (["--experimental-rerun", "x.pickle"], "'--experimental-rerun x.pickle' is what this run was started with"),
        (["packages=[evil]", "model._target_=evil.Model"], "model of this run wants evil.Model"),
        (["hydra/launcher=joblib"], "'hydra/launcher=joblib' is what this run was started with"),
        ([f"experiment={TRAVERSED}"], f"'experiment={TRAVERSED}' is what this run was started with"),
        (["model=/tmp/evil"], "'model=/tmp/evil' is what this run was started with"),
        (["+trainer@hydra.callbacks.x=default"], "'+trainer@hydra.callbacks.x=default' is what this run was"),
        ([r"logger.tensorboard.save_dir='\${oc.create:x}'"], '"logger.tensorboard.save_dir='),
        ([r"+hydra.launcher.zz=$\{evil\}"], "'+hydra.launcher.zz="),
        (["hydra.sweeper.sampler.seed=1"], "'hydra.sweeper.sampler.seed=1' is what this run was started with"),
        (["task_name=../../elsewhere"], "'task_name=../../elsewhere' is what this run was started with"),
        (["tags=['a\nb']"], "\"tags=['a"),
    ],
)
@pytest.mark.parametrize("key", ["resume", pytest.param("rerun", marks=pytest.mark.soak)])
def test_a_command_from_a_stranger_runs_no_code(
    key: str, arguments: list[str], message: str, run: Path, run_command: RunCommand
) -> None:
    Path("evil.py").write_text("open('exploded', 'w')")
    record = json.loads((run / "run.json").read_text())
    record |= {"arguments": [*QUICK, *arguments], "status": "failed"}
    (run / "run.json").write_text(json.dumps(record))
    before = sorted(run.rglob("*"))
    done = run_command("backlit-train", f"{key}={run}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"error: {message}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("exploded").exists()
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"arguments": [*QUICK, "-m", r"+hydra.launcher.zz=$\{evil\}"]}, "'+hydra.launcher.zz="),
        ({"jobs": [{"overrides": ["model=../x"], "directory": "0", "number": 0}]}, "'model=../x' is what this run"),
        (
            {"jobs": [{"overrides": [], "directory": "../victim", "number": 0}]},
            "resume must be a sweep whose sweep.json",
        ),
        ({"arguments": 3}, "resume must be a sweep whose sweep.json can be read"),
        ({"jobs": [{"x": 1}]}, "resume must be a sweep whose sweep.json can be read"),
    ],
)
def test_a_sweep_from_a_stranger_runs_no_code(
    content: dict[str, object], message: str, run_command: RunCommand, tmp_path: Path
) -> None:
    (tmp_path / "sweep").mkdir()
    job = {"overrides": [], "directory": "0", "number": 0}
    whole = {"arguments": [*QUICK, "-m", "optimizer.lr=1,2"], "jobs": [job]} | content
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(whole))
    done = run_command("backlit-train", "-m", "resume=sweep")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"error: {message}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["sweep", "sweep.json"]
    assert "Traceback" not in run_command("backlit-report", "sweep").stderr


def test_a_run_directory_with_a_link_is_refused(run: Path, run_command: RunCommand) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"arguments": QUICK, "status": "failed"}))
    (run / "train.log").symlink_to("/tmp/somewhere")
    done = run_command("backlit-train", f"resume={run}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: resume must be a directory without symbolic links, got ")


def test_what_a_config_of_backlit_names_is_trusted(composed: Compose) -> None:
    for more in (["scheduler=plateau", "optimizer=adamw"], ["experiment=mnist_mlp", "scheduler=cosine"]):
        cfg = composed(*more)
        cfg.output_dir = "."
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert list(not_trusted(plain, "", [])) == []


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("nowhere", "run must be a run directory, got nowhere, which has no .hydra/config.yaml"),
        ("latest", "run=latest: there is no run with a checkpoint in "),
        ("alone.ckpt", "run must be a file in the checkpoints/ of a run directory, got alone.ckpt"),
    ],
)
def test_what_is_no_run_is_told(of: str, message: str) -> None:
    Path("alone.ckpt").touch()
    with pytest.raises(ValueError, match=message):
        load_run(of)


def test_weights_that_do_not_fit_name_the_first_that_does_not(run: Path) -> None:
    change(run, model={"hidden_sizes": [5]})
    with pytest.raises(ValueError, match=r"net.fc1.weight has shape \(5, 2\) in the model, \(4, 2\) in the checkpoint"):
        load_run(run)
    torch.save({"epoch": 3}, run / "checkpoints" / "best.ckpt")
    with pytest.raises(ValueError, match="must be a checkpoint with a state_dict, but is another program's file"):
        load_run(run)
    (run / ".hydra" / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config.yaml must be a run's config"):
        load_run(run)
