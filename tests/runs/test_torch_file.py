"""Files like those of `torch.save` that are crafted to take more time or memory than they have bytes."""

import collections
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from backlit.runs.compare import check_comparable
from backlit.runs.torch_file import read_torch_file

DAMAGED = r"x\.ckpt is damaged, or no checkpoint that torch\.load\(weights_only=True\) reads$"
SAVED = {"state_dict": {"a": torch.arange(300.0)}}


def local_part(name: str, content: bytes, packed: bytes | None = None) -> bytes:
    """Return a part of a zip archive."""
    method, stored = (0, content) if packed is None else (8, packed)
    header = (b"PK\3\4", 20, 0, method, 0, 0, zlib.crc32(content), len(stored), len(content), len(name), 0)
    return struct.pack("<4s5H3I2H", *header) + name.encode() + stored


def entry(name: str, content: bytes, offset: int, packed: bytes | None = None) -> bytes:
    """Return the entry of a part in the directory of a zip archive."""
    method, size = (0, len(content)) if packed is None else (8, len(packed))
    fields = (b"PK\1\2", 20, 20, 0, method, 0, 0, zlib.crc32(content), size, len(content), len(name))
    return struct.pack("<4s6H3I5H2I", *fields, 0, 0, 0, 0, 0, offset) + name.encode()


def end(count: int, size: int, start: int, at: int) -> bytes:
    """Return the end of a zip archive as torch writes it."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 30, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    return record + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, start, 0)


def archive_of(parts: dict[str, bytes]) -> bytes:
    """Return a zip archive with the layout of torch's own."""
    body, directory = b"", b""
    for name, content in parts.items():
        directory += entry(name, content, len(body))
        body += local_part(name, content)
    return body + directory + end(len(parts), len(directory), len(body), len(body + directory))


def with_pickle(content: bytes) -> bytes:
    """Return the archive of a pickle."""
    return archive_of({"x/data.pkl": b"\x80\x02" + content + b".", "x/byteorder": b"little", "x/version": b"3\n"})


def parts_of(content: Any) -> dict[str, bytes]:
    torch.save(content, "saved.ckpt")
    with zipfile.ZipFile("saved.ckpt") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_shared_part() -> bytes:
    """Return an archive in which 3,000 entries share one part of 20 MB: their checksums are those of 60 GB."""
    content = bytes(20 * 2**20)
    body = local_part("x/data/0", content)
    directory = entry("x/data/0", content, 0) * 3000
    return body + directory + end(3000, len(directory), len(body), len(body + directory))


def with_two_directories() -> bytes:
    """Return an archive in which torch finds packed weights, and zipfile parts of one byte.

    The end record names the first directory; zipfile takes the one just before it.
    """
    bodies, directories = [b"", b""], [b"", b""]
    for name, content in parts_of(SAVED | {"more": torch.zeros(10**6)}).items():
        packed = zlib.compress(content)[2:-4]
        directories[0] += entry(name, content, len(bodies[0]), packed)
        bodies[0] += local_part(name, content, packed)
        directories[1] += entry(name, b"x", len(bodies[1]))
        bodies[1] += local_part(name, b"x")
    first, count = bodies[0] + directories[0], directories[0].count(b"PK\1\2")
    shift = len(bodies[0]) - len(bodies[1])  # zipfile takes offsets from where its directory makes the archive begin
    second, at = directories[1], 0
    while at < len(second):
        offset, length = struct.unpack_from("<I", second, at + 42)[0], struct.unpack_from("<H", second, at + 28)[0]
        second = second[: at + 42] + struct.pack("<I", offset + shift) + second[at + 46 :]
        at += 46 + length
    size, start = len(directories[0]), len(bodies[0])
    return first + bodies[1] + second + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, start, 0)


def with_directory_attribute() -> bytes:
    """Return an archive whose weights are marked as a directory: torch returns uninitialized memory for them."""
    parts = parts_of(SAVED)
    content = bytearray(archive_of(parts))
    content[content.rindex(b"saved/data/0") - 8] = 0x10
    return bytes(content)


def with_a_letter_of_either_case() -> bytes:
    parts = parts_of(SAVED)
    parts["saved/data/a"] = parts.pop("saved/data/0")
    return archive_of(parts)


def nested_key() -> bytes:
    """Return a pickle of a dict whose key is a tuple of tuples: its hash takes 2**40 steps."""
    return b"}" + b")" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(40)) + b"K\1s"


def copied(call: bytes) -> bytes:
    """Return a pickle that copies a list of 1,000 numbers 10,000 times."""
    numbers = b"](" + b"K\1" * 1000 + b"eq\0"
    return b"]" + numbers + b"ac" + call + b"\nq\1" + b"".join([b"h\1h\0\x85R"] * 10_000)


CRAFTED: dict[str, Callable[[], bytes]] = {
    "parts that overlap": with_shared_part,
    "two directories": with_two_directories,
    "a part that is a directory": with_directory_attribute,
    "a part of any case": with_a_letter_of_either_case,
    "something before the archive": lambda: b"x" + archive_of(parts_of(SAVED)),
    "something after the archive": lambda: archive_of(parts_of(SAVED)) + b"x",
    "memory of any size": lambda: with_pickle(b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R"),
    "a key of keys": lambda: with_pickle(nested_key()),
    "copies": lambda: with_pickle(copied(b"__builtin__\nset")),
    "no stack": lambda: with_pickle(b"R"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_what_torch_save_does_not_write_is_not_read(case: str, little_memory: None) -> None:
    Path("x.ckpt").write_bytes(CRAFTED[case]())
    with pytest.raises(ValueError, match=DAMAGED):
        read_torch_file(Path("x.ckpt"))


def test_the_crafted_archives_are_well_formed_else() -> None:
    Path("x.ckpt").write_bytes(archive_of(parts_of(SAVED)))
    assert torch.equal(read_torch_file(Path("x.ckpt"))["state_dict"]["a"], torch.arange(300.0))


def repeated(value: Any) -> Any:
    for _ in range(34):
        value = [value, value]
    return value


def deep() -> Any:
    value: Any = []
    for _ in range(60):
        value = {"x": value}
    return value


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: repeated(1), "the same ones are in each other again and again"),
        (cycle, "they are nested deeper than 50 levels"),
        (deep, "they are nested deeper than 50 levels"),
        (lambda: torch.zeros(1).expand(10**12), "the same numbers are in tensors again and again"),
        (lambda: list(torch.zeros(10**5).expand(300, 10**5)), "the same numbers are in tensors again and again"),
    ],
)
def test_values_larger_than_their_file_are_rejected(make: Callable[[], Any], problem: str) -> None:
    torch.save({"state_dict": {}, "more": make()}, "x.ckpt")
    with pytest.raises(ValueError, match=f"^x.ckpt must hold plain values, but {problem}$"):
        read_torch_file(Path("x.ckpt"))


def test_what_programs_save_is_read(recwarn: pytest.WarningsRecorder) -> None:
    betas, weights = (0.9, 0.999), torch.zeros(3, 4)
    content = {
        "state_dict": collections.OrderedDict(a=weights, tied=weights, wide=torch.zeros(1).expand(10**6)),
        "groups": [{"betas": betas} for _ in range(1000)],
        "rows": [{"a metric with a long name, every epoch": number / 3} for number in range(1000)],
        "kinds": [{1, 2}, collections.Counter("aab"), b"bytes", 1j, torch.Size([2]), torch.float32, (), "é" * 500],
        "layouts": [torch.eye(3).to_sparse(), Parameter(weights), torch.zeros(3, device="meta")],
    }
    torch.save(content, "x.ckpt")
    read = read_torch_file(Path("x.ckpt"))
    assert read["groups"] == content["groups"]
    assert read["rows"] == content["rows"]
    assert read["kinds"] == content["kinds"]
    assert read["state_dict"]["wide"].shape == (10**6,)
    assert not recwarn.list


def test_exported_weights_are_read_in_the_same_way(points_run: Path) -> None:
    check_comparable(points_run)
    (points_run / "weights.pth").write_bytes(with_two_directories())
    with pytest.raises(ValueError, match=r"weights\.pth must be weights that torch\.load"):
        check_comparable(points_run)


def test_a_raw_pickle_gives_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    with zipfile.ZipFile("x.ckpt", "w"):
        pass
    Path("x.ckpt").write_bytes(pickle.dumps({"state_dict": {}}, protocol=4) + Path("x.ckpt").read_bytes())
    with pytest.raises(ValueError, match=DAMAGED):
        read_torch_file(Path("x.ckpt"))
    assert not recwarn.list
