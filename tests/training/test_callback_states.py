"""A checkpoint restores no path but those of the run's own checkpoints, and makes Lightning remove nothing else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from backlit.runs.checkpoint import SafeCheckpointIO, read_checkpoint
from backlit.training.callback_states import keep_own_files
from backlit.training.train import train
from tests.helpers.commands import QUICK, compose_config


class Counting(ModelCheckpoint):
    """A user's own, which saves more."""


def states_after(callback: Any, state: Any, key: Any = None, *, is_own: bool = True) -> dict[str, Any]:
    """Return the states of callbacks that a checkpoint with one state has after it was restricted."""
    checkpoint = {"callbacks": {key or callback.state_key: state}}
    keep_own_files(SimpleNamespace(callbacks=[callback]), checkpoint, is_own=is_own)  # type: ignore[arg-type]
    states: dict[str, Any] = checkpoint["callbacks"]
    return states


def make_files(directory: Path, *names: str) -> ModelCheckpoint:
    """Return a ModelCheckpoint that has saved the named files in a directory."""
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return ModelCheckpoint(directory, monitor="loss", save_top_k=len(names))


def saved_state(directory: Path, **scores: float) -> dict[str, Any]:
    """Return what Lightning saves for files with these scores, of which the smallest is best."""
    models = {f"{directory}/{name}.ckpt": torch.tensor(score) for name, score in scores.items()}
    order = sorted(models, key=lambda path: models[path].item())
    return {
        "monitor": "loss",
        "best_model_score": models[order[0]],
        "best_model_path": order[0],
        "current_score": torch.tensor(1.0),
        "dirpath": str(directory),
        "best_k_models": models,
        "kth_best_model_path": order[-1],
        "kth_value": models[order[-1]],
        "last_model_path": f"{directory}/last.ckpt",
    }


def assert_loads(callback: ModelCheckpoint, state: dict[str, Any], directory: Path) -> None:
    """Assert that a callback loads a restricted state, and names files of its directory only."""
    callback.load_state_dict(state)
    named = [callback.best_model_path, callback.kth_best_model_path, callback.last_model_path, *callback.best_k_models]
    assert {Path(path).parent for path in named if path} <= {directory}


def test_the_state_of_an_own_checkpoint_is_restored_as_it_was(tmp_path: Path) -> None:
    callback = make_files(tmp_path, "a.ckpt", "b.ckpt", "c.ckpt")
    (tmp_path / "last.ckpt").touch()
    state = saved_state(tmp_path, b=0.3, a=0.1, c=0.2)
    callback.load_state_dict(states_after(callback, state)[callback.state_key])
    restored = callback.state_dict()
    assert {name: restored[name] for name in state if name not in ("monitor", "current_score")} == {
        name: value for name, value in state.items() if name not in ("monitor", "current_score")
    }
    assert list(restored["best_k_models"]) == list(state["best_k_models"])


def test_the_files_of_a_copied_run_are_those_of_the_copy(tmp_path: Path) -> None:
    callback = make_files(tmp_path / "copy", "epoch=1-val/loss.ckpt", "b.ckpt")
    state = saved_state(tmp_path / "run", **{"epoch=1-val/loss": 0.3, "b": 0.1})
    own = states_after(callback, state)[callback.state_key]
    assert own["best_model_path"] == f"{tmp_path}/copy/b.ckpt"
    assert own["kth_best_model_path"] == f"{tmp_path}/copy/epoch=1-val/loss.ckpt"
    assert own["last_model_path"] == ""


@pytest.mark.parametrize(
    "path",
    [
        "local:///{victim}",
        "file://{victim}",
        "memory://x",
        "{victim}",
        "{victim}/file",
        "{run}/../victim",
        "../victim",
        "..",
        "/{victim}/file",
        "{run}/{victim}/file",
        "{run}",
        "{run}/",
        "{run}/link",
        "{run}/directory",
        "",
        "\0",
    ],
)
@pytest.mark.parametrize("directory", ["{run}", "/", "..", None, 3])
def test_a_path_to_anything_else_is_dropped(path: str, directory: Any, tmp_path: Path) -> None:
    places = {"run": str(tmp_path / "run"), "victim": str(tmp_path / "victim")}
    for name in ("victim", "run/directory"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "victim" / "file").touch()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "victim" / "file")
    path = path.format(**places)
    state = {
        **dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), path),
        "best_k_models": {path: torch.tensor(9.0)},
        "best_model_score": torch.tensor(9.0),
        "kth_value": torch.tensor(9.0),
        "extra": path,
    }
    if directory is not None:
        state["dirpath"] = directory.format(**places) if isinstance(directory, str) else directory
    for callback in (ModelCheckpoint(tmp_path / "run", monitor="x"), Counting(tmp_path / "run", monitor="x")):
        for key in (callback.state_key, type(callback), ModelCheckpoint):
            own = states_after(callback, state, key)[callback.state_key]
            assert own["best_k_models"] == {}
            assert {own["best_model_path"], own["last_model_path"]} == {""}
            assert "kth_best_model_path" not in own
            assert ("extra" in own) == (type(callback) is Counting)
            assert_loads(callback, own, tmp_path / "run")


def test_another_runs_checkpoint_brings_no_files(tmp_path: Path) -> None:
    callback = make_files(tmp_path, "a.ckpt")
    own = states_after(callback, saved_state(tmp_path, a=0.1), is_own=False)[callback.state_key]
    assert own["best_k_models"] == {}
    assert own["best_model_path"] == ""


@pytest.mark.parametrize("state", [3, "x", [1], {"best_k_models": [1]}, {"best_k_models": {3: 4, "a.ckpt": "high"}}])
def test_a_state_of_another_kind_restores_nothing(state: Any, tmp_path: Path) -> None:
    callback = make_files(tmp_path, "a.ckpt")
    states = states_after(callback, state)
    assert all(not own["best_k_models"] for own in states.values())


def test_other_callbacks_keep_their_states(tmp_path: Path) -> None:
    callback = EarlyStopping("x")
    assert states_after(callback, {"wait_count": 3}) == {callback.state_key: {"wait_count": 3}}


def test_only_files_in_directories_with_checkpoints_of_the_run_are_removed(tmp_path: Path) -> None:
    io = SafeCheckpointIO()
    for name in ("run/old.ckpt", "run/directory/x", "elsewhere/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    io.save_checkpoint({"state_dict": {}}, tmp_path / "run" / "new.ckpt")
    kept = [tmp_path / "run" / "directory", tmp_path / "elsewhere" / "x", tmp_path / "elsewhere"]
    more: list[str | Path] = [f"local://{kept[0]}", f"file://{kept[1]}", tmp_path / "run" / ".." / "elsewhere" / "x"]
    for path in [*kept, *more]:
        io.remove_checkpoint(path)
    assert [path for path in kept if not path.exists()] == []
    io.remove_checkpoint(tmp_path / "run" / "old.ckpt")
    assert not (tmp_path / "run" / "old.ckpt").exists()


@pytest.mark.parametrize(
    ("path", "directory", "version"),
    [
        ("local://{victim}", False, None),
        ("local://{victim}", True, None),
        ("local://{victim}", False, "2.0.0"),
        ("{checkpoints}/../../victim", False, None),
        ("{checkpoints}/more", True, None),
    ],
)
def test_a_resumed_run_removes_nothing_that_its_checkpoint_names(
    path: str, directory: bool, version: str | None, points_run: Path
) -> None:
    checkpoints, victim = points_run / "checkpoints", points_run.parent / "victim"
    for place in (victim, checkpoints / "more"):
        place.mkdir()
        (place / "precious").write_text("precious")
    path = path.format(victim=victim, checkpoints=checkpoints)
    last = checkpoints / "last.ckpt"
    content = read_checkpoint(last)
    (state,) = content["callbacks"].values()
    state |= {"best_model_path": path, "kth_best_model_path": path, "last_model_path": path}
    # Whatever comes next is better.
    state |= {"best_k_models": {path: torch.tensor(99.0)}, "kth_value": torch.tensor(99.0)}
    if not directory:
        del state["dirpath"]
    if version is not None:
        content |= {"pytorch-lightning_version": version, "checkpoint_callback_best_model_path": path}
    # A user's own callback of the same kind gets the same state.
    callback = ModelCheckpoint(checkpoints, monitor="val/acc", mode="max", save_last=True)
    content["callbacks"][callback.state_key] = state
    torch.save(content, last)
    own = "_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/acc, mode: max, save_last: true"
    own += ", filename: mine"
    mine = f"+callbacks.mine={{{own}, dirpath: '{checkpoints}'}}"
    config = compose_config(*QUICK, "trainer.max_epochs=3", "logger=csv", f"ckpt_path={last}", mine)
    try:
        train(config, points_run)
    except (KeyError, TypeError):
        assert version is not None  # Lightning's migration of so old a checkpoint needs what this one lacks
    for place in (victim, checkpoints / "more"):
        assert (place / "precious").read_text() == "precious"
