"""Files in MNIST's format."""

import struct
from pathlib import Path

import numpy


def write_idx(path: Path, array: numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]) -> None:
    """Write the IDX format of MNIST: two zeros, type 8 (uint8), the number of dimensions, each dimension, the data."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())
