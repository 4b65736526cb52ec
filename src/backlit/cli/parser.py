"""The command line of a program that has no config."""

import argparse
import sys
from typing import Any, NoReturn

from backlit import __version__
from backlit.text import printable


class Parser(argparse.ArgumentParser):
    """Has ``--version``, and reports a wrong command in one line, as all commands do.

    Args:
        example: A command that works, for the message.
        arguments: Those of `argparse.ArgumentParser`.
    """

    def __init__(self, *, example: str, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, **arguments)
        self.example = example
        self.add_argument("--version", action="version", version=f"backlit {__version__}")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with code 2."""
        print(f"error: {printable(message)}; for example: {self.example}", file=sys.stderr)
        sys.exit(2)
