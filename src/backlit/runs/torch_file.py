"""Reading the files that `torch.save` writes, if they may be a stranger's: in time and memory of the file's size.

`torch.load(weights_only=True)` runs no code, but unpacks, repeats and nests without limits, and verifies no checksum.
"""

import pickletools
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backlit.runs.bounded import MOST_LEVELS

# How often values may repeat what the file holds once: programs share a few tuples and tensors among many places.
_MOST_REPEATS = 20
# The end of an archive of `torch.save`: zip64 record, its locator, the end record.
_END = struct.Struct("<4sQ2H2I4Q 4sIQI 4s4H2IH")


def read_torch_file(path: Path, map_location: Any = "cpu") -> Any:
    """Return what a file of `torch.save` holds: plain data.

    Raises:
        ValueError: If it is damaged, or was not written by `torch.save`, or needs more than its size to read.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} must be a checkpoint, but is no file")
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about kinds of tensors
            content = torch.load(path, map_location=map_location, weights_only=True)
    except MemoryError:
        raise
    except OSError as error:  # a disk that fails is no damaged file
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception:  # whatever a file that is no checkpoint makes zipfile and torch raise
        raise ValueError(f"{path} is damaged, or no checkpoint that torch.load(weights_only=True) reads") from None
    if problem := _find_repeats(content, path.stat().st_size):
        raise ValueError(f"{path} must hold plain values, but {problem}")
    return content


def _check_archive(path: Path) -> None:
    """Raise `ValueError` if a file is not what `torch.save` writes: a zip archive of stored, checksummed parts.

    The parts follow each other, and then comes the one directory: no two of them share bytes, and torch, which searches
    for the directory in its own way, cannot find another one.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        parts = sorted(archive.infolist(), key=lambda part: part.header_offset)
        end_at = file.seek(max(0, path.stat().st_size - _END.size))
        end = _END.unpack(file.read())
        count, size, start, record_at = end[7], end[8], end[9], end[12]
        if (end[0], end[10], end[14], end[21]) != (b"PK\6\6", b"PK\6\7", b"PK\5\6", 0):
            raise ValueError("another end")
        if (count, start + size, start, record_at) != (len(parts), end_at, archive.start_dir, end_at):
            raise ValueError("another directory")
        begins = [part.header_offset for part in parts]
        for part, next_begin in zip(parts, [*begins[1:], start], strict=True):
            if part.compress_type != zipfile.ZIP_STORED or part.compress_size != part.file_size:
                raise ValueError("a packed part")
            if part.external_attr:  # a directory, for which torch returns memory as it is
                raise ValueError("a part that is no file")
            if part.header_offset + 30 + part.file_size > next_begin:
                raise ValueError("parts that overlap")
        # torch finds parts without regard to case.
        names = {part.filename.lower() for part in parts}
        folder = parts[0].filename.split("/")[0].lower()
        weights = [name for name in names if name.startswith(f"{folder}/data/")]
        if len(names) != len(parts) or not all(re.fullmatch(r"[^/]+/data/\d+", name) for name in weights):
            raise ValueError("parts of one name")
        if archive.testzip():
            raise ValueError("another checksum")
        for part in parts:
            if part.filename.endswith("data.pkl"):
                _check_pickle(archive.read(part))


def _check_pickle(content: bytes) -> None:
    """Raise `ValueError` if reading a pickle takes more than its length.

    A value that was read once is referred to by two bytes: tuples of tuples whose hash takes forever, copies without
    end. So this follows the instructions with the sizes of the values alone.
    """
    stack: list[list[int]] = []  # each size in a list of its own, which grows with its value
    marks: list[int] = []
    kept: dict[Any, list[int]] = {}
    work, most = 0, _MOST_REPEATS * len(content)
    arg: Any
    for op, arg, _ in pickletools.genops(content):
        if op.name == "MARK":
            marks.append(len(stack))
            continue
        if op.name in ("BINPUT", "LONG_BINPUT"):
            kept[arg] = stack[-1]
            continue
        if op.name in ("BINGET", "LONG_BINGET"):
            stack.append(kept[arg])
            continue
        if op.name == "GLOBAL" and arg.endswith(" bytearray"):
            raise ValueError("a call that takes any amount of memory")
        has_mark = pickletools.markobject in op.stack_before
        begin = marks.pop() if has_mark else len(stack) - len(op.stack_before)
        begin -= op.name in ("SETITEMS", "APPENDS")
        taken = stack[begin:]
        del stack[begin:]
        size = min(1 + sum(each for (each,) in taken), 2**62)
        if op.name in ("REDUCE", "NEWOBJ", "BUILD"):
            work += taken[-1][0]  # copied
        elif op.name in ("SETITEM", "SETITEMS"):
            work += sum(key for (key,) in taken[1::2])  # hashed
        if work > most:
            raise ValueError("values that repeat others")
        if op.name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS", "BUILD"):
            taken[0][0] = size
            stack.append(taken[0])
        elif op.stack_after:
            stack.append([size + len(arg) if isinstance(arg, str | bytes) else size])


def _find_repeats(content: Any, file_size: int) -> str | None:
    """Return what makes data larger than the file that they come from, as the end of a message; None if nothing does.

    A list may be in another many times, or in itself; a tensor may show one number a trillion times. Weights may do so,
    since they must have the shapes of the model.
    """
    sizes: dict[int, int] = {}
    tensors: dict[int, Tensor] = {}
    entries = 1

    def unfold(value: Any, level: int) -> int:
        nonlocal entries
        if isinstance(value, Tensor):
            tensors[id(value)] = value
        if not isinstance(value, dict | list | tuple | set):
            return 1
        if id(value) not in sizes:
            if level == MOST_LEVELS:
                raise RecursionError
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            entries += len(parts)
            sizes[id(value)] = 1 + sum([unfold(part, level + 1) for part in parts])
        return sizes[id(value)]

    try:
        size = unfold(content, 0)
    except RecursionError:
        return f"they are nested deeper than {MOST_LEVELS} levels"
    if size > _MOST_REPEATS * entries:
        return "the same ones are in each other again and again"
    weights = content.get("state_dict") if isinstance(content, dict) else None
    for value in weights.values() if isinstance(weights, dict) else ():
        tensors.pop(id(value), None)
    dense = [tensor for tensor in tensors.values() if tensor.layout is torch.strided and not tensor.is_nested]
    if (
        sum(tensor.numel() * tensor.element_size() for tensor in dense if not tensor.is_meta)
        > _MOST_REPEATS * file_size
    ):
        return "the same numbers are in tensors again and again"
    return None
