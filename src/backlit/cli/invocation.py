"""The command that this process runs: what it resumes, which directory it has reserved, what it has built.

Hydra creates its callbacks by name and hands them nothing but the config. `Invocation.current` is the one place where
`backlit.cli.reserve.CheckAndReserve` finds the rest.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlit.cli.plan import Plan
from backlit.runs.files import lock_directory
from backlit.training.signals import find_interrupt

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from backlit.training.build import RunParts

_CURRENT: ContextVar["Invocation"] = ContextVar("invocation")


@dataclass
class Invocation:
    """A command from its first line to its exit code.

    Args:
        plan: What the arguments come to.
        run_dir: The directory that the command has reserved for a run from its beginning; None where it has none.
        sweep_dir: The directory of the sweep that this process runs.
        parts: What the run is made of, from the check until the run starts.
        undo: Removes what the command has made on disk, if it ends before its run or its first job has started.
        kept: Objects that have to live as long as the command: a store that other processes ask.
        locks: The directories that no other command may run meanwhile, with their locks.
        has_started: Whether the task has begun.
        is_called: Whether Python code has called the command; its errors are raised, not printed.
        error: The error of a command that was called, on its way through Hydra, which would make a warning of it.
        signals: Those that have come: Ctrl-C and SIGTERM.
    """

    plan: Plan = field(default_factory=lambda: Plan([]))
    run_dir: Path | None = None
    sweep_dir: Path | None = None
    parts: "RunParts | None" = None
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    kept: list[Any] = field(default_factory=list)
    locks: dict[Path, "BaseFileLock"] = field(default_factory=dict)
    has_started: bool = False
    is_called: bool = False
    error: Exception | None = None
    signals: list[int] = field(default_factory=list)

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

    def interrupt_code(self, error: BaseException | None = None) -> int | None:
        """Return the exit code of the signal that has come, or that is behind an error; None if there is none."""
        return 128 + self.signals[0] if self.signals else find_interrupt(error)

    def lock(self, directory: Path) -> None:
        """Let no other command run what is in a directory until this command ends.

        Raises:
            ConfigError: If another one does, or if the directory cannot be written.
        """
        directory = directory.resolve()
        if directory not in self.locks:
            self.locks[directory] = lock_directory(directory)

    def unlock(self) -> None:
        """Release all locks and remove their files."""
        for lock in self.locks.values():
            with contextlib.suppress(OSError):
                os.unlink(lock.lock_file)  # who has opened it meanwhile finds that it is gone, and tries again
            lock.release(force=True)  # however often this process has taken it
        self.locks.clear()

    def take_parts(self) -> "RunParts | None":
        """Return what the check has built, once; None in a process that has not checked."""
        parts, self.parts = self.parts, None
        return parts
