"""The picture beside a table."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backlit.runs.files import atomic_write
from backlit.text import first_line, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_picture(path: Path, draw: "Callable[[], Figure]") -> None:
    """Write the figure that `draw` returns as PNG; if it cannot be drawn, print a warning: the table has the numbers.

    Args:
        path: The file.
        draw: Imports what it draws with, too: Ctrl-C while a module is imported can leave it, or one that it imports,
            in a state in which it cannot be imported again, and a sweep is summarized after that.

    Raises:
        OSError: If the file cannot be written.
    """
    try:
        figure = draw()
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    except OSError:
        raise
    except Exception as error:  # matplotlib raises errors of many kinds
        print(printable(f"warning: {path.name} was not drawn: {first_line(error)}"), file=sys.stderr)
