"""Finds runs: all below a directory, the latest one, or the one that a path names, with its checkpoint."""

import os
from collections.abc import Iterator
from pathlib import Path

from backlit.runs.read_record import read_record


def directories_with(file: str, top: Path) -> Iterator[Path]:
    """Yield the directories in or below `top` that have a file, ``run.json`` say, in the order of their names."""
    seen = set()
    for parent, below, files in os.walk(top, followlinks=True):
        below.sort()
        if file in files:
            below.clear()
            yield Path(parent)
        elif (real := os.path.realpath(parent)) in seen:  # a link that leads back up
            below.clear()
        else:
            seen.add(real)


def latest_directories(file: str, outputs: Path) -> list[Path]:
    """Return the directories below `outputs` that have a file, the last written one first.

    Those of ``debug=…`` are left out: nobody means a run that was only tried.
    """
    found = [path for path in directories_with(file, outputs) if path.relative_to(outputs).parts[:1] != ("debug",)]
    return sorted(found, key=lambda path: (path / file).stat().st_mtime, reverse=True)


def find_latest_run(outputs: Path) -> Path:
    """Return the latest run with a checkpoint that no search has stopped.

    Raises:
        FileNotFoundError: If there is none.
    """
    for directory in latest_directories("run.json", outputs):
        if any(directory.glob("checkpoints/*.ckpt")) and not _is_pruned(directory):
            return directory
    raise FileNotFoundError(f"there is no run with a checkpoint in {outputs.resolve()}")


def _is_pruned(directory: Path) -> bool:
    try:
        return bool(read_record(directory / "run.json")["status"] == "pruned")
    except ValueError:
        return False  # whoever reads the run says that


def find_run(run: str | Path, checkpoint: str | None = None, outputs: str = "outputs") -> tuple[Path, Path]:
    """Return the directory of a run, and a checkpoint in it; the arguments are those of `load_run`.

    Raises:
        ValueError: If there is no such run, or no such checkpoint.
    """
    try:
        directory = find_latest_run(Path(outputs)) if run == "latest" else Path(run)
    except FileNotFoundError as error:
        raise ValueError(f"run=latest: {error}") from None
    file = None
    if directory.is_file():
        file = directory
        above = [path for path in file.resolve().parents if (path / ".hydra" / "config.yaml").is_file()]
        directory = above[0] if above else file.resolve().parent.parent
        if checkpoint is not None:
            raise ValueError(f"checkpoint must be null when run is a file, got {checkpoint} and {run}")
    if not (directory / ".hydra" / "config.yaml").is_file():
        rule = "a file in the checkpoints/ of a run directory" if file else "a run directory"
        raise ValueError(f"run must be {rule}, got {run}, which has no .hydra/config.yaml")
    if file is not None:
        return directory, file
    checkpoints = directory / "checkpoints"
    names = [checkpoint] if checkpoint else ["best", "last"]
    for name in names:
        if (path := checkpoints / f"{name}.ckpt").is_file():
            return directory, path
    existing = ", ".join(sorted(path.stem for path in checkpoints.glob("*.ckpt"))) or "none"
    raise ValueError(f"checkpoint must be one that {directory} has ({existing}), got {' or '.join(names)}")
