"""``backlit-new``: writes a small project with its own network, data, experiment and test."""

import importlib.util
import keyword
import os
import shutil
import sys
import tempfile
from pathlib import Path

from backlit.cli.parser import Parser
from backlit.runs.files import describe_write_error, make_directory, remove_empty_directories
from backlit.streams import dropping_streams
from backlit.text import printable, shell_command, shell_path
from backlit.training.signals import sigterm_ends_in_order

TEMPLATE = Path(__file__).parent / "template"
# The name that the template has, in its files and as the name of a folder.
_NAME = "my_project"


def new_project(directory: Path) -> str:
    """Write a project, whole or not at all, and return the name of its package, which is that of the directory.

    Args:
        directory: A new directory, or an empty one; ``-`` in its name is ``_`` in the package's.

    Raises:
        ValueError: If there is something, or if no package can have the name.
        OSError: If it cannot be written.
    """
    name = directory.name.replace("-", "_")
    if problem := _name_problem(name):
        raise ValueError(problem)
    if directory.exists() or directory.is_symlink():
        if not directory.is_dir():
            raise ValueError(f"NAME must be a new directory, got {directory}, which is a file")
        if names := sorted(os.listdir(directory)):
            listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(f"NAME must be a new or empty directory, got {directory}, which has {listed}")
    made: list[Path] = []
    try:
        make_directory(directory.parent, made)
        with tempfile.TemporaryDirectory(prefix=f".{_NAME}.", dir=directory.parent) as temporary:
            _fill(Path(temporary, _NAME), name)
            _move(Path(temporary, _NAME), directory)
    except BaseException:
        remove_empty_directories(made)
        raise
    return name


def _name_problem(name: str) -> str | None:
    """Return why no package should have a name; None if one may."""
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        rule = "NAME must have letters, digits, - and _, the first one a letter, and be no word of Python"
        return f"{rule}, got {name!r}: backlit-new {_NAME}"
    if name in sys.stdlib_module_names:
        return f"NAME must be no module of Python, got {name}: backlit-new my_{name}"
    spec = importlib.util.find_spec(name) if name not in sys.modules else sys.modules[name].__spec__
    # A folder in the working directory is a package without a file, if it is anything.
    if spec is not None and spec.origin is not None:
        return f"NAME must be no installed package, got {name}, which is {spec.origin}: backlit-new my_{name}"
    return None


def _fill(directory: Path, name: str) -> None:
    """Write the template with another name."""
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:  # what pip compiles when it installs backlit
            target = directory / str(source.relative_to(TEMPLATE)).replace(_NAME, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text(encoding="utf-8").replace(_NAME, name), encoding="utf-8")


def _move(source: Path, directory: Path) -> None:
    """Move a directory to its place; an empty one that is there stays, since a shell may work in it."""
    if not directory.is_dir():
        source.rename(directory)
        return
    moved: list[Path] = []
    try:
        for path in source.iterdir():
            moved.append(directory / path.name)
            path.rename(moved[-1])
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def main() -> None:
    """Run ``backlit-new``."""
    with dropping_streams(), sigterm_ends_in_order():
        try:
            _main()
        except KeyboardInterrupt:
            sys.exit(130)


def _main() -> None:
    parser = Parser(
        prog="backlit-new",
        example=f"backlit-new {_NAME}",
        description="Writes a project of your own: a network, data, an experiment, a test, and a Makefile.",
    )
    parser.add_argument("directory", type=Path, metavar="NAME", help="a new directory; its name is the package's")
    directory = Path(os.path.abspath(parser.parse_args().directory.expanduser()))
    try:
        name = new_project(directory)
    except (ValueError, OSError) as error:
        reason = describe_write_error(error) if isinstance(error, OSError) else str(error)
        print(f"error: {printable(reason)}", file=sys.stderr)
        sys.exit(2)
    print(f"{name}: a project with a network, data, an experiment and a test\n")
    print(f"  train     cd {shell_path(directory)} && {_make_command()}")
    print(f"  read      {shell_path(directory / 'README.md')}")


def _make_command() -> str:
    """Return the command that trains there; it names this Python where a Makefile would find another one."""
    found = shutil.which("python3")
    is_found = found is not None and os.path.dirname(found) == os.path.dirname(sys.executable)
    return shell_command("make", "train", *([] if is_found else [f"PYTHON={sys.executable}"]))


if __name__ == "__main__":
    main()
