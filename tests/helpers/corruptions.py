"""Run directories and sweeps with one broken file each."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Corrupt = Callable[[Path], None]

_BYTES = {
    "empty": b"",
    "cut off": b'{"status": "comp',
    "binary": bytes(range(256)) * 4,
    "no UTF-8": b'{"status": "completed", "error": "\xff\xfe"}',
    "zeros": b"\0" * 2000,
    "deep": b"[" * 100_000,
    "deep mapping": b'{"a":' * 50_000,
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "text": b'"completed"',
    "huge number": b'{"status": "completed", "duration_s": ' + b"9" * 10_000 + b"}",
}
# Of no type that any entry of run.json has, and values of the right type that mean nothing.
_VALUES: dict[str, Any] = {
    "object": {"a": [1]},
    "list": [["a"], {}],
    "true": True,
    "inf": 1e999,
    "huge": 10**400,
    "negative": -1,
    "control characters": "\x1b]0;owned\x07\n\x00\x1b[2J",
    "surrogate": "\ud800",
}
_ENTRIES = (
    "status",
    "optimized_metric",
    "optimized_mode",
    "duration_s",
    "attempts",
    "pid",
    "host",
    "overrides",
    "arguments",
    "versions",
    "error",
    "started",
    "first_step",
    "planned_epochs",
    "loggers",
)
_CSV = {
    "no header": b"1,2,3\n4,5,6\n",
    "only a header": b"step,epoch,val/loss\n",
    "no step": b"epoch,val/loss\n0,0.5\n",
    "text": b"step,epoch,val/loss\n10,0,abc\n",
    "long row": b"step,epoch,val/loss\n10,0,0.5,7,8\n",
    "short row": b"step,epoch,val/loss\n10\n",
    "nan step": b"step,epoch,val/loss\nnan,0,0.5\n",
    "huge step": b"step,epoch,val/loss\n" + b"9" * 6000 + b",0,0.5\n",
    "negative step": b"step,epoch,val/loss\n-4,0,0.5\n",
    "huge value": b"step,epoch,val/loss\n10,0,1e308\n20,1,-1e308\n",
    "infinite value": b"step,epoch,val/loss\n10,0,inf\n",
    "same column twice": b"step,epoch,val/loss,val/loss\n10,0,0.5,0.6\n",
    "control characters": b"step,epoch,val/loss,\x1b[2J\n10,0,0.5,1\n",
    "binary": bytes(range(256)) * 4,
    "zeros": b"step,epoch,val/loss\n10,0,\0\0\n",
    "no UTF-8": b"step,epoch,val/loss\xff\n10,0,0.5\n",
    "UTF-16": "step,epoch,val/loss\n10,0,0.5\n".encode("utf-16"),
    "open quote": b'step,epoch,val/loss\n10,0,"0.5\n' + b"1,2,3\n" * 30_000,
    "cut off": b"step,epoch,val/loss\n10,0,0.5\n20,1,0.4e-",
    "empty": b"",
}
_ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
_YAML = {
    "empty": b"",
    "aliases": _ALIASES.encode(),
    "deep": b"[" * 100_000,
    "binary": bytes(range(256)) * 4,
    "no UTF-8": b"seed: \xff\n",
    "a list": b"- 1\n- 2\n",
    "open quote": b'seed: "abc\n',
    "tag": b"seed: !!python/object/apply:os.system [true]\n",
    "no date": b"seed: 2026-99-99\n",
    "huge number": b"seed: " + b"9" * 10_000 + b"\n",
    "control characters": b'task_name: "\\e[2J\\0"\n',
    "markup": b"tags: ['[/data/a]', '[red]', '$x', '$\\frac', ':smile:']\n",
    "key of a list": b"? [a, b]\n: 1\n",
}


def _write(name: str, content: bytes) -> Corrupt:
    def corrupt(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return corrupt


def _set(name: str, entry: str, value: Any) -> Corrupt:
    def corrupt(directory: Path) -> None:
        content = json.loads((directory / name).read_text())
        (directory / name).write_text(json.dumps(content | {entry: value}))

    return corrupt


def _replace(name: str, make: Callable[[Path], object]) -> Corrupt:
    def corrupt(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        make(directory / name)

    return corrupt


def _kinds(name: str) -> Iterator[tuple[str, Corrupt]]:
    """Yield what may be in the place of a file."""
    yield f"{name}: missing", _replace(name, lambda path: None)
    yield f"{name}: a directory", _replace(name, lambda path: path.mkdir())
    yield f"{name}: a pipe", _replace(name, os.mkfifo)
    yield f"{name}: a device", _replace(name, lambda path: path.symlink_to("/dev/zero"))
    yield f"{name}: a link to nowhere", _replace(name, lambda path: path.symlink_to("nowhere"))
    yield f"{name}: a link to itself", _replace(name, lambda path: path.symlink_to(path.name))


def run_corruptions() -> dict[str, Corrupt]:
    """Return what breaks a run's directory, by name."""
    found: dict[str, Corrupt] = {}
    for name in ("run.json", "metrics.json"):
        found |= {f"{name}: {kind}": _write(name, content) for kind, content in _BYTES.items()}
    for entry in _ENTRIES:
        found |= {f"run.json: {entry} is {kind}": _set("run.json", entry, value) for kind, value in _VALUES.items()}
    for kind, value in _VALUES.items():
        found[f"metrics.json: metrics is {kind}"] = _set("metrics.json", "metrics", value)
        found[f"metrics.json: a metric is {kind}"] = _set("metrics.json", "metrics", {"val/loss_best": value})
    found |= {f"metrics.csv: {kind}": _write("metrics.csv", content) for kind, content in _CSV.items()}
    found |= {f"config.yaml: {kind}": _write(".hydra/config.yaml", content) for kind, content in _YAML.items()}
    for name in ("run.json", "metrics.json", "metrics.csv", ".hydra/config.yaml"):
        found |= dict(_kinds(name))
    return found


def sweep_corruptions() -> dict[str, Corrupt]:
    """Return what breaks a sweep's record, by name."""
    job: dict[str, Any] = {"number": 0, "directory": "0", "overrides": ["lr=1"]}
    found = {f"sweep.json: {kind}": _write("sweep.json", content) for kind, content in _BYTES.items()}
    for kind, value in _VALUES.items():
        found[f"sweep.json: jobs is {kind}"] = _set("sweep.json", "jobs", value)
        found[f"sweep.json: arguments is {kind}"] = _set("sweep.json", "arguments", value)
        found[f"sweep.json: a job is {kind}"] = _set("sweep.json", "jobs", [job, value])
        for entry in job:
            found[f"sweep.json: {entry} is {kind}"] = _set("sweep.json", "jobs", [job | {entry: value}])
        found[f"sweep.json: an override is {kind}"] = _set("sweep.json", "jobs", [job | {"overrides": [value]}])
    for name in ("", ".", "..", "/etc", "a/b", "\0", "x" * 5000):
        found[f"sweep.json: directory {name[:9]!a}"] = _set("sweep.json", "jobs", [job | {"directory": name}])
    found |= dict(_kinds("sweep.json"))
    return found
