"""Small data of a user's own: a table of three kinds of flowers, and pictures of two kinds of colours."""

import csv
from pathlib import Path

import numpy
from PIL import Image

KINDS = ("iris", "rose", "tulip")
COLUMNS = ("height", "width", "kind")


def write_table(path: Path, rows_per_class: int = 20, seed: int = 0) -> list[list[str]]:
    """Write a table with a header whose classes are easy to distinguish, and return its rows."""
    random = numpy.random.default_rng(seed)
    rows = [
        [f"{100 * number + random.normal(0, 5):.3f}", f"{3 - number + random.normal(0, 0.2):.4f}", kind]
        for _ in range(rows_per_class)
        for number, kind in enumerate(KINDS)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return rows


def write_pictures(directory: Path, per_class: int = 10, seed: int = 0) -> None:
    """Write a folder of bluish and one of reddish pictures, of several sizes and formats."""
    random = numpy.random.default_rng(seed)
    for label, (name, channel) in enumerate((("blue", 2), ("red", 0))):
        (directory / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = random.integers(0, 80, (8 + 3 * (index % 3), 8 + 2 * (index % 2), 3), dtype=numpy.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(directory / name / f"{index:02}_{label}.{('png', 'jpg')[index % 2]}")
