"""Copies a run's directory, in order to resume the run elsewhere."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from backlit.errors import ConfigError
from backlit.runs.files import new_directory, remove_directories


def _check_copy_target(source: Path, target: Path) -> None:
    """Raise `ConfigError` if a run cannot be copied to `target`."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError([f"hydra.run.dir must be an empty or new directory to resume the run in, got {target}"])
    if target.resolve().is_relative_to(source.resolve()):
        raise ConfigError([f"hydra.run.dir must be outside of the run that is resumed, {source}, got {target}"])


def copy_run(source: Path, target: Path, undo: ExitStack) -> None:
    """Copy a run's directory, in order to resume the run there; the run itself stays as it is.

    Args:
        source: The run directory.
        target: An empty or new directory.
        undo: Gets a callback that removes the copy, but not a directory that was there before.

    Raises:
        ConfigError: If it cannot be copied.
    """
    _check_copy_target(source, target)
    made: list[Path] = []
    try:
        if target.is_dir():
            undo.callback(_remove_all, [target / path.name for path in source.iterdir()])
        else:
            undo.callback(remove_directories, made)
            if new_directory(target, made) != target:  # somebody else has just made it
                _check_copy_target(source, target)
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock"))
    except (OSError, shutil.Error) as error:
        reason = str(error.args[0][0][2]) if isinstance(error, shutil.Error) else error.strerror
        reason = "No space left on device" if "No space left" in str(reason) else reason
        raise ConfigError([f"{source} cannot be copied to {target}: {reason}"]) from None


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
