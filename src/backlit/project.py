"""The project in which a command is typed: ``[tool.backlit]`` in the nearest ``pyproject.toml``.

Its ``conf`` has options beside backlit's own, and its ``packages`` are trusted. A stranger's archive may have a
``pyproject.toml``, too; so a project counts only if Python finds its packages in it, as it does once the user has
installed it.
"""

import importlib.util
import os
import sys
import tomllib
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from backlit.errors import ConfigError
from backlit.text import shell_command, shell_word

_KEYS = {"conf": 'conf = "conf"', "packages": 'packages = ["my_project"]'}


@dataclass(frozen=True)
class Project:
    """What ``[tool.backlit]`` says.

    Args:
        directory: The directory of ``pyproject.toml``.
        conf: The directory of YAML files.
        packages: The packages of the project, whose code a run's config may name.
    """

    directory: Path
    conf: Path
    packages: tuple[str, ...]


def find_project() -> Project | None:
    """Return the project of the working directory.

    The nearest ``pyproject.toml`` counts, there or above; None if it has no ``[tool.backlit]``.

    Raises:
        ConfigError: If that cannot be read, or if the project is not installed.
    """
    here = Path.cwd()
    files = [directory / "pyproject.toml" for directory in (here, *here.parents)]
    file = next((path for path in files if os.path.isfile(path)), None)
    table = None if file is None else _read_table(file)
    if file is None or table is None:
        return None
    if problems := _table_problems(table, file) or _trust_problems(table["packages"], file.parent):
        raise ConfigError(problems)
    return Project(file.parent, file.parent / table["conf"], tuple(table["packages"]))


def project_packages() -> tuple[str, ...]:
    """Return the packages of the project of the working directory; none if there is none.

    Raises:
        ConfigError: As `find_project`.
    """
    project = find_project()
    return () if project is None else project.packages


def _read_table(file: Path) -> Any:
    """Return ``[tool.backlit]``; None if the file has none."""
    try:
        content: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{file} cannot be read: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError
        raise ConfigError([f"{file} must be TOML: {error}"]) from None
    tool = content.get("tool")
    return tool.get("backlit") if isinstance(tool, dict) else None


def _table_problems(table: Any, file: Path) -> list[str]:
    """Return what is wrong with the table itself, a line a problem."""
    if not isinstance(table, dict):
        return [f"tool.backlit must be a table with {' and '.join(_KEYS)}, got {table!r} in {file}"]
    known = " and ".join(_KEYS)
    problems = [f"tool.backlit.{key}: no such key in {file}; there are {known}" for key in table if key not in _KEYS]
    problems += [f"tool.backlit.{key} must be given in {file}: {_KEYS[key]}" for key in _KEYS if key not in table]
    conf, packages = table.get("conf", "."), table.get("packages", ["x"])
    if not isinstance(conf, str) or "\0" in conf or not os.path.isdir(file.parent / conf):
        problems.append(f"tool.backlit.conf must be a directory beside {file}, got {conf!r}")
    if not isinstance(packages, list) or not packages:
        typed = f'["{packages}"]' if isinstance(packages, str) else '["my_project"]'
        problems.append(f"tool.backlit.packages must be a list of packages, got {packages!r} in {file}: {typed}")
        packages = []
    problems += [
        f"tool.backlit.packages must have names of packages, without dots, got {name!r} in {file}"
        for name in packages
        if not (isinstance(name, str) and name.isidentifier())
    ]
    return problems


def _trust_problems(packages: list[str], directory: Path) -> list[str]:
    """Return a line for each package that Python does not find in the project.

    Python looks there because the user has installed the project or has set ``PYTHONPATH``. What is installed from
    elsewhere is not the project's to trust: with ``packages = ["os"]`` in an archive, its runs could run any command.
    """
    problems = []
    for name in packages:
        spec = _find_spec(name)
        places = _places(spec)
        install = shell_command("pip", "install", "-e", str(directory))
        if spec is None:
            problems.append(f"{name} of {directory / 'pyproject.toml'} is not installed; if you trust it: {install}")
        elif name in {*sys.stdlib_module_names, "backlit"} or not all(_is_own(path, directory) for path in places):
            found = f"which is in {shell_word(str(places[0].parent))}" if places else "which is Python's own"
            rule = f"tool.backlit.packages must be packages in {directory}"
            problems.append(f"{rule}, got {name}, {found}; if it is a copy of the project's: {install}")
    return problems


def _find_spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module without a spec, such as __main__
        return None


def _places(spec: ModuleSpec | None) -> list[Path]:
    """Return where the code of a package is."""
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(path).resolve() for path in spec.submodule_search_locations]
    return [Path(spec.origin).resolve()] if spec.has_location and spec.origin else []


def _is_own(path: Path, directory: Path) -> bool:
    """Return whether code is in the project, and not in an environment that is in the project."""
    directory = directory.resolve()
    if not path.is_relative_to(directory):
        return False
    return not {"site-packages", "dist-packages"} & set(path.relative_to(directory).parts)
