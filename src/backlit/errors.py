"""Errors that a command reports in one line, without a traceback."""

from collections.abc import Sequence


class ConfigError(ValueError):
    """The user's input is wrong; nothing was started; exit code 2.

    Args:
        problems: One line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[str]]]:
        """Survive pickling: a forked process sends it to its parent."""
        return type(self), (self.problems,)


class RerunDiffersError(Exception):
    """A repeated run came out differently; the log names the differences; exit code 1."""


class JobError(Exception):
    """A job of a sweep has failed; the sweep's summary gives the reason; exit code 1."""


class JobsLeftError(Exception):
    """The jobs of a sweep are in the queue of a cluster, and nobody waits for them here.

    Args:
        code: The exit code: 0, or 1 if other jobs have failed already.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class RankError(Exception):
    """Another process of the run has ended or does not answer; exit code 1."""
