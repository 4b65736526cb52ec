"""Finds a run: the latest one, or the one that a path names, with its checkpoint."""

from pathlib import Path


def find_latest_run(outputs: Path, *, with_checkpoint: bool = True) -> Path:
    """Return the directory under `outputs`, of a run or of a sweep's job, that was written to last.

    Args:
        outputs: Where runs are put.
        with_checkpoint: Only one that has a checkpoint.

    Raises:
        FileNotFoundError: If there is none.
    """
    records = [*outputs.glob("*/runs/*/run.json"), *outputs.glob("*/sweeps/*/*/run.json")]
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        if not with_checkpoint or any(record.parent.glob("checkpoints/*.ckpt")):
            return record.parent
    wanted = "run with a checkpoint" if with_checkpoint else "run"
    raise FileNotFoundError(f"there is no {wanted} in {outputs.resolve()}")


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
