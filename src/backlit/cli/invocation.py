"""The command that this process runs: what it resumes, which directory it has reserved, what it has built.

Hydra creates its callbacks by name and hands them nothing but the config. `Invocation.current` is the one place where
`backlit.cli.reserve.CheckAndReserve` finds the rest.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlit.cli.plan import Plan

if TYPE_CHECKING:
    from backlit.training.build import RunParts

_CURRENT: ContextVar["Invocation"] = ContextVar("invocation")


@dataclass
class Invocation:
    """A command from its first line to its exit code.

    Args:
        plan: What the arguments come to.
        sweep_dir: The directory of the sweep that this process runs.
        parts: What the run is made of, from the check until the run starts.
        undo: Removes what the command has made on disk, if it ends before its run or its first job has started.
        kept: Objects that have to live as long as the command: a lock, a store that other processes ask.
        has_started: Whether the task has begun.
    """

    plan: Plan = field(default_factory=lambda: Plan([]))
    sweep_dir: Path | None = None
    parts: "RunParts | None" = None
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    kept: list[Any] = field(default_factory=list)
    has_started: bool = False

    @staticmethod
    def current() -> "Invocation":
        """Return the command that this process runs; an empty one where Hydra was started by somebody else."""
        return _CURRENT.get(Invocation())

    @contextlib.contextmanager
    def as_current(self) -> Iterator[None]:
        """Let `current` return this one within the context."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def take_parts(self) -> "RunParts | None":
        """Return what the check has built, once; None in a process that has not checked."""
        parts, self.parts = self.parts, None
        return parts
