"""``backlit-report``: summarizes a sweep, or compares any runs, from the files in their directories."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from backlit.cli.parser import Parser
from backlit.runs.files import describe_write_error, is_disk_error
from backlit.streams import dropping_streams
from backlit.sweeps.entries import find_runs, sweep_entries
from backlit.sweeps.side_by_side import compare_runs
from backlit.sweeps.summary import summarize_entries
from backlit.text import printable, shell_path
from backlit.training.signals import note_signals, sigterm_ends_in_order


def report(paths: Sequence[Path], output: Path | None = None) -> None:
    """Summarize a sweep, or compare runs.

    Args:
        paths: The directory of one sweep; or any directories with runs in or below them.
        output: Where a comparison is written; None for a new directory under ``outputs/reports``.

    Raises:
        ValueError: If a path is not a directory, or if there is no run that can be read.
    """
    for path in paths:
        if not path.is_dir():
            reason = "is a file" if path.exists() else "does not exist"
            named = str(path).partition("=")[2]
            hint = f": backlit-report {shell_path(Path(named if named and Path(named).is_dir() else 'outputs'))}"
            raise ValueError(f"PATH must be a directory, got {path}, which {reason}{hint}")
    if len(paths) == 1 and output is None and _is_sweep(paths[0]):
        entries, problems = sweep_entries(paths[0])
        if problems and not entries:
            raise ValueError(f"no job of {paths[0]} can be read: {'; '.join(problems)}")
        summarize_entries(paths[0], entries, problems)
        return
    entries, problems = find_runs(paths)
    if problems and not entries:
        raise ValueError(f"no run can be read: {'; '.join(problems)}")
    for problem in problems:
        print(f"left out: {printable(problem)}", file=sys.stderr)
    if not entries:
        names = sorted(path.name for parent in paths for path in parent.iterdir())
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
        raise ValueError(f"no run.json in or below {', '.join(map(str, paths))}; there is {listed}")
    compare_runs(entries, output or Path("outputs", "reports", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"))


def _is_sweep(directory: Path) -> bool:
    return any((directory / name).exists() for name in ("sweep.json", "multirun.yaml"))


def main() -> None:
    """Run ``backlit-report``."""
    with dropping_streams(), sigterm_ends_in_order(), note_signals() as signals:
        try:
            _main()
        except (KeyboardInterrupt, Exception):
            if not signals:
                raise
            sys.exit(128 + signals[0])


def _main() -> None:
    parser = Parser(
        prog="backlit-report",
        example="backlit-report outputs",
        description=(
            "Summarizes a sweep (sweep.csv, sweep.md, sweep.png in its directory), or compares runs and sweeps."
        ),
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a sweep, a run, or a directory of them")
    parser.add_argument(
        "--output", type=Path, help="directory for a comparison's files, by default outputs/reports/<date>_<time>"
    )
    arguments = parser.parse_args()
    try:
        report(arguments.paths, arguments.output)
    except (ValueError, OSError) as error:
        reason = describe_write_error(error) if isinstance(error, OSError) and is_disk_error(error) else str(error)
        print(f"error: {printable(reason)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
