"""Which of the states of callbacks a checkpoint restores: none that names a file outside of the run's own directories.

A checkpoint may come from a stranger, or from another run. Lightning obeys the paths in it: it removes the previous
best checkpoint, a directory too, by fsspec's recursive ``rm``.
"""

import os
from pathlib import Path, PurePath
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

# What Lightning's ModelCheckpoint saves.
_KNOWN = (
    "monitor",
    "best_model_score",
    "best_model_path",
    "current_score",
    "dirpath",
    "best_k_models",
    "kth_best_model_path",
    "kth_value",
    "last_model_path",
)


def keep_own_files(trainer: Trainer, checkpoint: dict[str, Any], *, is_own: bool) -> None:
    """Let the states of ModelCheckpoints in a checkpoint name nothing but files in the directories of these callbacks.

    Args:
        trainer: Has the callbacks that will load the states.
        checkpoint: What Lightning has read; it is changed.
        is_own: Whether it is a checkpoint of the run itself; those of another run name none of this run's files.
    """
    found = checkpoint.get("callbacks")
    states = dict(found) if isinstance(found, dict) else {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(callback, ModelCheckpoint):
            continue
        # Lightning also looks for the class itself, under which a migration of old checkpoints puts a state.
        candidates = [states.pop(key, None) for key in (callback.state_key, type(callback), ModelCheckpoint)]
        state = next((each for each in candidates if each), None)
        if isinstance(state, dict):
            states[callback.state_key] = _own_state(callback, state, is_own=is_own)
    checkpoint["callbacks"] = states


def keep_patience(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Let each EarlyStopping keep the patience of its config; Lightning would restore that of the checkpoint."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = checkpoint["callbacks"].get(callback.state_key) if isinstance(callback, EarlyStopping) else None
        if isinstance(state, dict):
            state["patience"] = callback.patience


def _own_state(callback: ModelCheckpoint, state: dict[str, Any], *, is_own: bool) -> dict[str, Any]:
    """Return a state for a callback: the files of its directory with their scores, and what follows from these.

    A file keeps its name if the run has been copied. A subclass also gets what it has saved itself: its code is trusted
    by name.
    """
    recorded, directory = state.get("dirpath"), callback.dirpath
    more = {} if type(callback) is ModelCheckpoint else {k: v for k, v in state.items() if k not in _KNOWN}

    def own_file(path: Any) -> str:
        return _own_file(path, recorded, directory) if is_own and directory else ""

    models = state.get("best_k_models")
    scores = {
        file: score
        for path, score in (models if isinstance(models, dict) else {}).items()
        if isinstance(score, Tensor) and score.numel() == 1 and (file := own_file(path))
    }
    best, worst = (min, max) if callback.mode == "min" else (max, min)
    best_path = best(scores, key=lambda file: scores[file].item(), default=own_file(state.get("best_model_path")))
    own = {
        "dirpath": directory,
        "best_k_models": scores,
        "best_model_path": best_path,
        "best_model_score": scores.get(best_path),
        "last_model_path": own_file(state.get("last_model_path")),
    }
    if scores and len(scores) == callback.save_top_k:
        kth = worst(scores, key=lambda file: scores[file].item())
        own |= {"kth_best_model_path": kth, "kth_value": scores[kth]}
    return more | own


def _own_file(path: Any, recorded: Any, directory: str | os.PathLike[str]) -> str:
    """Return the regular file in a directory that a recorded path stands for; an empty text if there is none.

    Args:
        path: What the state names.
        recorded: The directory that the state has been saved for.
        directory: The directory that counts.
    """
    if not isinstance(path, str):
        return ""
    is_own = isinstance(recorded, str) and path.startswith(f"{recorded}{os.sep}")
    name = path[len(str(recorded)) + 1 :] if is_own else PurePath(path).name
    file = Path(directory, name)
    is_below = file.is_file() and not PurePath(name).is_absolute()
    return str(file) if is_below and file.resolve() == Path(directory).resolve() / name else ""
