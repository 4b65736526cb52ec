"""The names that a ModelCheckpoint gives to its files: Lightning would fail on a wrong one when it first saves."""

import os
import pkgutil
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

_FIELD = r"\{[A-Za-z_][\w/.@-]*(:0?\d{0,2}(\.\d{1,2})?[defg]?)?\}"


def check_filenames(callbacks: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each template of a ModelCheckpoint that is no file name once its fields are filled in.

    Args:
        callbacks: The nodes of the group ``callbacks``; their targets can be imported.
    """
    for key, node in callbacks.items():
        template = node.get("filename") if isinstance(node, dict) else None
        if not isinstance(template, str):
            continue
        kind = pkgutil.resolve_name(node["_target_"])
        if isinstance(kind, type) and issubclass(kind, ModelCheckpoint) and not _is_valid(template):
            rule = "a name of at most 200 characters with fields such as {epoch:02d} and {val/loss:.3f}"
            shown = template if len(template) <= 100 else f"{template[:100]}…"
            yield f"callbacks.{key}.filename must be {rule}, got {shown!r}"


def _is_valid(template: str) -> bool:
    if re.search(r"[{}]", re.sub(_FIELD, "", template)):
        return False
    fields = [field.group()[1:-1].split(":")[0] for field in re.finditer(_FIELD, template)]
    zeros = {name: torch.tensor(0 if name in ("epoch", "step") else 0.0) for name in fields}
    try:
        name = ModelCheckpoint(filename=template).format_checkpoint_name(zeros)
    except ValueError:  # whole numbers are wanted of a metric
        return False
    return max(len(os.fsencode(part)) for part in name.split("/")) <= 200
