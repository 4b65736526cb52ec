"""The git commits that a run used, and what was not committed."""

import functools
import subprocess
from pathlib import Path
from typing import Any


@functools.cache
def _checkout_state(directory: Path, member: Path | None = None) -> tuple[dict[str, Any] | None, str]:
    """Return commit and dirtiness of the git checkout of a directory, and its uncommitted changes.

    None and an empty text where there is no checkout, or if it does not track the file `member`. Git is asked once a
    directory: a process runs the code that it has imported.
    """

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout.decode(
            errors="surrogateescape"
        )

    try:
        if member is not None:
            # Code in somebody else's checkout, in a virtual environment say, has no commit of its own.
            ask("ls-files", "--error-unmatch", str(member))
        top, commit = ask("rev-parse", "--show-toplevel", "HEAD").splitlines()
        changed = ask("status", "--porcelain")
        diff = f"{changed}\n{ask('diff', 'HEAD')}" if changed else ""
        return {"checkout": top, "commit": commit, "dirty": bool(changed)}, diff
    except (OSError, ValueError, subprocess.SubprocessError):
        return None, ""


def git_state() -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
    """Return the git checkouts of backlit and, if it is another one, of the working directory; and their changes."""
    here = Path(__file__)
    (git, diff), (project, own_diff) = _checkout_state(here.parent, here), _checkout_state(Path.cwd())
    if git and project and git["checkout"] == project["checkout"]:
        return git, None, diff
    return git, project, diff + own_diff
