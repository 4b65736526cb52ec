"""Where the console scripts start: Ctrl-C ends a command without a traceback, from its imports to its exit."""

import importlib
import signal
import sys


def train() -> None:
    """Run ``backlit-train``."""
    _run("backlit.train")


def evaluate() -> None:
    """Run ``backlit-evaluate``."""
    _run("backlit.evaluate")


def export() -> None:
    """Run ``backlit-export``."""
    _run("backlit.export")


def new() -> None:
    """Run ``backlit-new``."""
    _run("backlit.new")


def predict() -> None:
    """Run ``backlit-predict``."""
    _run("backlit.predict")


def report() -> None:
    """Run ``backlit-report``."""
    _run("backlit.report")


def _run(module: str) -> None:
    """Run the ``main`` of a module.

    While it is imported nothing has begun, and when it has returned nothing is left to end in order: then Ctrl-C ends
    the process at once.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # a shell lets commands in the background ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main = importlib.import_module(module).main
    try:
        signal.signal(signal.SIGINT, handler)
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        if handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
