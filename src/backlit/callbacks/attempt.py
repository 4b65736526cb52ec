"""What may fail in a run without failing it: pictures, histograms, the graph."""

import contextlib
import logging
from collections.abc import Iterator

from backlit.runs.files import is_disk_error
from backlit.text import first_line

log = logging.getLogger(__name__)


class Attempts:
    """Turns errors into warnings in the log, each kind once: what was learned is worth more than its picture."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Log an error within this context as a warning with its reason.

        A full or broken disk is raised: the run reports it, since it could not write its results either.

        Args:
            what: The subject of the warning: ``the picture boundary``.
        """
        try:
            yield
        except Exception as error:  # whatever a network, matplotlib or TensorBoard raises
            if is_disk_error(error):
                raise
            if what not in self._reported:
                self._reported.add(what)
                log.warning("%s was not written: %s: %s", what, type(error).__name__, first_line(error))
                log.debug("traceback", exc_info=error)
