"""Commands about a run or a sweep, as they are printed: each runs when it is pasted in the working directory."""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from backlit.errors import ConfigError
from backlit.project import project_packages
from backlit.runs.places import outside_override, outside_places
from backlit.runs.run import Run, flat_config
from backlit.text import assignment, path_override, shell_command, shell_word

# Hydra's flags that take a value.
FLAGS_WITH_VALUE = (
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
)
MULTIRUN = ("-m", "--multirun")
_OF_CLUSTER = ("hydra.launcher.options=", "hydra.launcher.ray_address=")
# Overrides that a resumed run gets anew.
_PLANNED = ("hydra.run.dir=", "hydra.sweep.dir=", "ckpt_path=")


def split_flags(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return flags with their values, and overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    takes_value = False
    for argument in arguments:
        (flags if takes_value or argument.startswith("-") else overrides).append(argument)
        takes_value = not takes_value and argument in FLAGS_WITH_VALUE
    return flags, overrides


def evaluate_command(directory: Path) -> str:
    """Return the command that evaluates a run."""
    packages = own_packages(directory)
    flat = flat_config(directory).items()
    data = [(key, value) for key, value in flat if key.startswith("data.") and "${" not in value and value != "None"]
    # Where data are read and unpacked is not taken from a record alone.
    places = [assignment(key, value) for key, value in data if any(outside_places(value, key, None))]
    words = ["backlit-evaluate", path_override("run", directory), *places, *_trusted(packages)]
    return _python_path(packages) + shell_command(*words)


def repeat_command(run: Run) -> str:
    """Return the command that trains a run again, as it was typed, without what made it a job of a sweep."""
    own = f"{run.directory.resolve()}{os.sep}"  # a resumed run has its own checkpoint among its overrides
    overrides = [o for o in map(str, run.record.get("overrides", [])) if not (o.startswith("ckpt_path=") and own in o)]
    words = ["backlit-train", *_own_flags(run.record.get("arguments") or []), *overrides]
    return _python_path(own_packages(run.directory)) + shell_command(*map(str, words))


def resume_command(
    directory: Path, arguments: Sequence[str], *more: str, is_sweep: bool = False, parts_of: Path | None = None
) -> str:
    """Return the command that resumes a run or a sweep.

    Args:
        directory: Of the run or the sweep.
        arguments: Those that it has recorded.
        more: What else is typed.
        is_sweep: Whether it is a sweep.
        parts_of: A run with the same parts; `directory` by default.
    """
    packages = [*own_packages(parts_of or directory), *_logger_packages(parts_of or directory)]
    words = ["backlit-train", *(["-m"] if is_sweep else []), *_own_flags(arguments)]
    # What names a place elsewhere is not taken from a record alone.
    places = [
        override
        for override in split_flags(map(str, arguments))[1]
        if outside_override(override, directory) and not override.startswith(_PLANNED)
    ]
    # Nor is where a cluster is, and what it is asked for.
    places += [override for override in arguments if is_sweep and override.startswith(_OF_CLUSTER)]
    words += [path_override("resume", directory), *more, *places, *_trusted(packages)]
    return _python_path(packages) + shell_command(*words)


def search_command(arguments: Sequence[str], key: str, distribution: str) -> str:
    """Return the command of a search in which a key is drawn from another distribution.

    Args:
        arguments: Those of the search.
        key: The key.
        distribution: In Hydra's grammar.
    """
    flags, overrides = split_flags(map(str, arguments))
    dropped = (f"{key}=", f"+{key}=", f"++{key}=", "resume=", *_PLANNED)
    kept = [override for override in overrides if not override.startswith(dropped)]
    return shell_command("backlit-train", *flags, *kept, f"{key}={distribution}")


def own_packages(directory: Path) -> list[str]:
    """Return the packages, besides backlit and what it is built on, whose code the config of a run names."""
    targets = []
    for key, value in flat_config(directory).items():
        if key.split(".")[-1] == "_target_":
            targets.append(value)
        targets += re.findall(r"'_target_': '([^']*)'", value)  # in a list
    packages = sorted({target.split(".")[0] for target in targets} - {"backlit", "lightning", "torch"})
    return [package for package in packages if package.isidentifier()]


def _logger_packages(directory: Path) -> list[str]:
    """Return Lightning if a logger of a run sends to a server; `backlit.config.trust` wants it to be named."""
    flat = flat_config(directory).items()
    loggers = [value for key, value in flat if re.fullmatch(r"logger\..*\._target_", key)]
    is_elsewhere = any(
        target.startswith(("backlit.", "lightning.")) and not target.endswith((".TensorBoardLogger", ".CSVLogger"))
        for target in loggers
    )
    return ["lightning"] if is_elsewhere else []


def _own_flags(arguments: Iterable[str]) -> list[str]:
    return [flag for flag in split_flags(map(str, arguments))[0] if flag not in MULTIRUN]


def _trusted(packages: Sequence[str]) -> list[str]:
    typed: Sequence[str] = packages
    with contextlib.suppress(ConfigError):  # a project that was changed while the run trained
        typed = [package for package in packages if package not in project_packages()]
    return [f"packages=[{','.join(typed)}]"] if typed else []


def _python_path(packages: Sequence[str]) -> str:
    """Return the setting of ``PYTHONPATH`` in front of a command that imports these packages, if they need one."""
    typed = os.environ.get("PYTHONPATH", "")
    if any(_has(entry, packages) for entry in typed.split(os.pathsep) if entry):
        return f"PYTHONPATH={shell_word(typed)} "
    # `python -m backlit.train` finds packages in the working directory, where `backlit-evaluate` does not look.
    is_here = {"", str(Path.cwd())} & set(sys.path) and _has(".", packages)
    return "PYTHONPATH=. " if is_here else ""


def _has(entry: str, packages: Sequence[str]) -> bool:
    return any(Path(entry, name).exists() for package in packages for name in (package, f"{package}.py"))
