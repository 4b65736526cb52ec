"""Callbacks that end a run: by a signal in some hook, or by SIGKILL at an awkward moment."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning


class Signaller(lightning.Callback):
    """Sends its process a signal, once.

    Args:
        hook: The hook of a callback in which it does so.
        number: The signal.
        step: The first optimizer step at which it does so.
    """

    def __init__(self, hook: str, number: signal.Signals, step: int = 0) -> None:
        self.is_sent = False

        def send(trainer: lightning.Trainer, *_: object) -> None:
            if not self.is_sent and trainer.global_step >= step:
                self.is_sent = True
                os.kill(os.getpid(), number)

        setattr(self, hook, send)


def signaller(hook: str, number: signal.Signals, step: int = 0) -> str:
    """Return the override that adds a `Signaller`."""
    values = f"hook: {hook}, number: {int(number)}, step: {step}"
    return f"+callbacks.signaller={{_target_: tests.helpers.callbacks.Signaller, {values}}}"


class Killer(lightning.Callback):
    """Kills its process: within a training step, in validation, or while a checkpoint is written.

    Args:
        where: ``step``, ``validation``, ``half`` (half of a checkpoint is written), ``rename`` (before a checkpoint, or
            the previous one, gets its name), or ``nowhere``.
        number: The occurrence at which it does so, counted from 1.
    """

    def __init__(self, where: str, number: int) -> None:
        self.where, self.left = where, number

    def strike(self, where: str) -> None:
        if where == self.where:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_train_start(self, *_: object) -> None:
        write, replace = Path.write_bytes, os.replace

        def write_bytes(path: Path, content: Any) -> int:
            if ".ckpt" in path.name:
                write(path, content[: len(content) // 2])
                self.strike("half")
            return write(path, content)

        def rename(source: Any, target: Any) -> None:
            if str(target).endswith(".ckpt"):
                self.strike("rename")
            replace(source, target)

        Path.write_bytes, os.replace = write_bytes, rename  # type: ignore[method-assign,assignment]

    def on_before_optimizer_step(self, *_: object) -> None:
        self.strike("step")

    def on_validation_batch_end(self, *_: object) -> None:
        self.strike("validation")


class CutError(Exception):
    """Ends a run as a kill would, without an end to its process."""


class Cutter(lightning.Callback):
    """Raises `CutError`.

    Args:
        hook: The hook of a callback in which it does so.
        number: The occurrence at which it does so, counted from 1.
    """

    def __init__(self, hook: str, number: int) -> None:
        self.left = number

        def cut(*_: object) -> None:
            self.left -= 1
            if not self.left:
                raise CutError

        setattr(self, hook, cut)


def cutter(hook: str, number: int) -> str:
    """Return the override that adds a `Cutter`."""
    return f"+callbacks.cutter={{_target_: tests.helpers.callbacks.Cutter, hook: {hook}, number: {number}}}"
