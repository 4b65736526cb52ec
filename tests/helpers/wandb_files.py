"""What W&B has written for a run: the records of its ``run-*.wandb`` file, read without its client."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The file is a log of LevelDB: blocks of this size, in which each part of a record has a header of 7 bytes.
_BLOCK, _HEADER = 32768, 7
_WHOLE, _LAST = 1, 4


@dataclass
class WandbRun:
    """A run of W&B.

    Args:
        id: Its id.
        name: Its name.
        group: The group that it is shown in.
        exit_code: The exit code that it ended with; None if it has not ended.
        config: Its config.
        rows: What was recorded, a mapping a call.
    """

    id: str = ""
    name: str = ""
    group: str = ""
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Return optimizer step and value of a metric."""
        return [(row["trainer/global_step"], row[name]) for row in self.rows if name in row]


def read_wandb(directory: Path) -> WandbRun:
    """Return the run that a directory ``offline-run-*`` of W&B holds."""
    (path,) = directory.glob("run-*.wandb")
    run = WandbRun()
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id, run.name, run.group = record.run.run_id, record.run.display_name, record.run.run_group
        elif kind == "config":
            run.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            items = record.history.item
            run.rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _records(content: bytes) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    at, parts = _HEADER, b""  # the file's own header has 7 bytes, too
    while at < len(content):
        if (left := _BLOCK - at % _BLOCK) < _HEADER:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + _HEADER])
        at += _HEADER
        parts, at = parts + content[at : at + size], at + size
        if kind in (_WHOLE, _LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # made when it is imported
            record.ParseFromString(parts)
            parts = b""
            yield record
