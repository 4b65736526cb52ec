"""The console scripts: what Ctrl-C does before a command begins, while it runs and after it."""

import importlib
import signal
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlit import start

SIGINT = signal.SIGINT


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What SIGINT does while a command's module is imported, and while the command runs, which Ctrl-C then ends."""
    before, seen = signal.getsignal(SIGINT), list[object]()

    def main() -> None:
        seen.append(signal.getsignal(SIGINT))
        raise KeyboardInterrupt

    def import_module(name: str) -> types.SimpleNamespace:
        seen.append(signal.getsignal(SIGINT))
        return types.SimpleNamespace(main=main)

    monkeypatch.setattr(importlib, "import_module", import_module)
    yield seen
    signal.signal(SIGINT, before)


def test_ctrl_c_ends_a_command_without_a_traceback(handlers: list[object]) -> None:
    with pytest.raises(SystemExit) as ended:
        start.train()
    assert ended.value.code == 130
    assert handlers == [signal.SIG_DFL, signal.default_int_handler]
    assert signal.getsignal(SIGINT) == signal.SIG_DFL


def test_a_command_in_the_background_goes_on_ignoring_ctrl_c(handlers: list[object]) -> None:
    signal.signal(SIGINT, signal.SIG_IGN)
    with pytest.raises(SystemExit):
        start.train()
    assert handlers == [signal.SIG_IGN, signal.SIG_IGN]
    assert signal.getsignal(SIGINT) == signal.SIG_IGN


def test_each_console_script_runs_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    called: list[str] = []
    monkeypatch.setattr(start, "_run", called.append)
    for script, target in project["scripts"].items():
        module, _, function = target.partition(":")
        getattr(importlib.import_module(module), function)()
        assert called.pop() == script.replace("-", ".")
        assert callable(importlib.import_module(script.replace("-", ".")).main)
