"""Finds a digit in a photo and frames it as MNIST's digits are framed."""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from backlit.data.images import to_8_bits

Floats = NDArray[numpy.float32]
Mask = NDArray[numpy.bool_]

# A photo is searched at this size of its longer side, in pixels: a digit of a twentieth of it is still 30 pixels high.
SEARCHED = 640
# The background is what remains when everything narrower than this part of the photo's shorter side is closed.
BACKGROUND = 0.3
# Ink absorbs at least this part of the light of its background; grain and noise less.
FAINTEST = 0.08
# The number of pixels of the darkest strokes, at the size searched: a small digit has more.
DARKEST = 60
# MNIST's digits fit a box of 20 × 20 pixels, with strokes of about 2.3 pixels; these are the strokes that are left as
# they are.
BOX, SIDE = 20, 28
THINNEST, THICKEST = 1.8, 3.2
# A digit is drawn at this multiple of MNIST's resolution, then averaged.
OVERSAMPLING = 8


@dataclass(frozen=True)
class FramedDigit:
    """A digit that was found.

    Args:
        image: Bright on dark, shape ``(28, 28)``, uint8.
        inverted: Whether it is dark on light in the photo.
        groups: How many groups of strokes as large as a digit the photo has; the largest is framed.
    """

    image: NDArray[numpy.uint8]
    inverted: bool
    groups: int


def frame_digit(opened: Image.Image, *, invert: bool | None = None) -> FramedDigit:
    """Return the largest digit of a photo as MNIST's digits were made.

    The background is estimated by a morphological closing, which keeps shades and removes strokes; ink is what absorbs
    at least half as much of its light as the darkest strokes, in any colour. The largest connected stroke and what is
    near it are cropped. As for MNIST (Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist), the black and
    white digit is scaled into a box of 20 × 20 pixels with its aspect ratio, which makes its edges grey, and its centre
    of mass is moved to the middle of 28 × 28 pixels. Strokes that are much thinner or thicker than MNIST's are made as
    wide as MNIST's.

    Args:
        opened: An image of any kind, not decoded yet.
        invert: Whether the digit is darker than its background; None to decide by what there is more of.

    Raises:
        Exception: Any exception of PIL, if the file is damaged; ValueError if there is no stroke in it.
    """
    opened.draft("RGB", (SEARCHED, SEARCHED))  # a photo's JPEG need not be decoded at its full size
    absorbed, inverted = _absorption(to_8_bits(opened), invert)
    chosen, groups = _largest_group(absorbed > _threshold(absorbed))
    return FramedDigit(_as_mnist(absorbed, chosen), inverted, groups)


def _absorption(photo: Image.Image, invert: bool | None) -> tuple[Floats, bool]:
    """Return the part of the background's light that each pixel absorbs, shape ``(h, w)``, and whether ink is dark."""
    scale = SEARCHED / max(photo.size)
    size = [max(1, round(side * scale)) for side in photo.size]
    resized = photo.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=3)
    light = numpy.atleast_3d(numpy.asarray(resized, numpy.float32) / 255)
    light = ndimage.gaussian_filter(light, (1, 1, 0))
    window = round(BACKGROUND * min(size)) | 1
    if invert is None:  # strokes are a small part: they skew the differences from what is around them
        grey = light.mean(2)
        difference = grey - ndimage.uniform_filter(grey, window)
        invert = bool((difference**3).sum() < 0)
    if not invert:
        light = 1 - light
    background = ndimage.grey_closing(light, (window, window, 1))
    absorbed: Floats = ((background - light) / (background + 0.05)).max(2)
    return absorbed, invert


def _threshold(absorbed: Floats) -> float:
    """Return what ink absorbs at least: half of what the darkest strokes absorb.

    Raises:
        ValueError: If nothing absorbs that much.
    """
    darkest = float(numpy.partition(absorbed, -DARKEST, axis=None)[-DARKEST])
    if darkest < FAINTEST:
        raise ValueError("no digit is found in it; frame=none predicts the whole image")
    return darkest / 2


def _largest_group(strokes: Mask) -> tuple[Mask, int]:
    """Return the largest connected stroke and what belongs to it, and the number of groups of its size."""
    labels, count = ndimage.label(strokes, numpy.ones((3, 3)))
    areas = numpy.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels)
    height, width = strokes.shape
    inside = [y.start > 0 and x.start > 0 and y.stop < height and x.stop < width for y, x in boxes]
    if any(inside):  # a table's edge or a ruled line leaves the photo
        areas = areas * numpy.array(inside)
    main = int(areas.argmax())
    rows, columns = boxes[main]
    size = max(rows.stop - rows.start, columns.stop - columns.start)
    gaps = ndimage.minimum(ndimage.distance_transform_edt(labels != main + 1), labels, range(1, count + 1))
    chosen, groups = {main + 1}, 1
    for index, (area, gap, (_, x)) in enumerate(zip(areas, gaps, boxes, strict=True)):
        overlaps = x.start < columns.stop and columns.start < x.stop
        if index == main or not area:
            continue
        if gap <= (0.25 if overlaps else 0.1) * size:
            chosen.add(index + 1)
        elif area >= 0.2 * areas[main]:
            groups += 1
    return numpy.isin(labels, list(chosen)), groups


def _as_mnist(absorbed: Floats, chosen: Mask) -> NDArray[numpy.uint8]:
    """Return the chosen strokes as an image ``(28, 28)`` as MNIST was made."""
    ink = numpy.where(ndimage.binary_dilation(chosen, iterations=3), absorbed / numpy.median(absorbed[chosen]), 0)
    top, left, bottom, right = _box(chosen)
    scale = BOX * OVERSAMPLING / max(bottom - top, right - left)
    margin = max(1, round(4 * OVERSAMPLING / scale))  # room for a wider pen
    ink = numpy.pad(ink, margin)[top : bottom + 2 * margin, left : right + 2 * margin]
    size = round(ink.shape[1] * scale), round(ink.shape[0] * scale)
    large = numpy.asarray(Image.fromarray(ink.astype(numpy.float32)).resize(size, Image.Resampling.BICUBIC)) > 0.5
    inside = ndimage.distance_transform_edt(large)
    width = 4 * inside[large].mean() / OVERSAMPLING  # of a long stroke
    change = numpy.clip(width, THINNEST, THICKEST) - width
    outside = ndimage.distance_transform_edt(~large)
    large = inside - outside > -change / 2 * OVERSAMPLING
    top, left, bottom, right = _box(large)
    cut = Image.fromarray(large[top:bottom, left:right].astype(numpy.uint8) * 255)
    scale = BOX / max(cut.size)
    small = cut.resize([max(1, round(side * scale)) for side in cut.size], Image.Resampling.BOX)
    pixels = numpy.asarray(small)
    middle = [round(SIDE / 2 - float(centre)) for centre in ndimage.center_of_mass(pixels)]
    image = numpy.zeros((SIDE, SIDE), numpy.uint8)
    top, left = (min(max(0, start), SIDE - length) for start, length in zip(middle, pixels.shape, strict=True))
    image[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return image


def _box(mask: Mask) -> tuple[int, int, int, int]:
    """Return the first row and column of a mask, and those after the last."""
    rows, columns = (numpy.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
