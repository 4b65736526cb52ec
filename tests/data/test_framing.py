"""A digit in an image of any kind is framed as MNIST's are, and is the same digit whatever the paper and the pen."""

import io
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from backlit.data.framing import frame_digit
from backlit.data.images import open_image
from backlit.data.readers import Reader

# A seven and a zero, in a box of 1 × 1.
SEVEN = [(0.1, 0.0), (0.9, 0.0), (0.4, 1.0)]
ZERO = [(0.5, 0), (0.15, 0.2), (0.15, 0.8), (0.5, 1), (0.85, 0.8), (0.85, 0.2), (0.5, 0)]


def draw(
    size: tuple[int, int] = (400, 300),
    corner: tuple[int, int] = (100, 60),
    height: int = 150,
    pen: int = 12,
    ink: Any = (20, 20, 20),
    paper: Any = (225, 222, 215),
    stroke: list[tuple[float, float]] = SEVEN,
) -> Image.Image:
    """Return a picture of a digit."""
    picture = Image.new("RGB", size, paper)
    points = [(corner[0] + x * height * 0.7, corner[1] + y * height) for x, y in stroke]
    ImageDraw.Draw(picture).line(points, ink, pen, joint="curve")
    return picture


def stored(picture: Image.Image, kind: str = "png", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return file


def framed(picture: Image.Image, kind: str = "png", **options: Any) -> NDArray[numpy.uint8]:
    return frame_digit(open_image(stored(picture, kind, **options))).image


def difference(first: NDArray[numpy.uint8], second: NDArray[numpy.uint8]) -> float:
    """Return how much of the ink differs, 0 to 1, of images whose places may differ by a pixel."""
    moved = [numpy.roll(second, (y, x), (0, 1)).astype(float) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return min(float(numpy.abs(first - other).sum() / (first.sum(dtype=float) + other.sum())) for other in moved)


@pytest.fixture(scope="module")
def expected() -> NDArray[numpy.uint8]:
    return framed(draw())


@pytest.mark.parametrize("stroke", [SEVEN, ZERO])
def test_a_digit_fills_the_box_of_mnist_and_is_centred_by_mass(stroke: list[tuple[float, float]]) -> None:
    image = framed(draw(stroke=stroke))
    rows, columns = numpy.nonzero(image)
    assert max(numpy.ptp(rows), numpy.ptp(columns)) + 1 == 20
    for axis in (0, 1):
        mass = (numpy.indices(image.shape)[axis] * image).sum() / image.sum()
        assert abs(mass - 14) <= 0.51  # as in MNIST, to the next pixel
    assert image.max() == 255
    assert len(numpy.unique(image)) > 10  # the edges are grey


def shaded(picture: Image.Image) -> Image.Image:
    light = numpy.linspace(0.25, 1, picture.width)[None, :, None]
    return Image.fromarray((numpy.asarray(picture) * light).astype(numpy.uint8))


def lined(picture: Image.Image) -> Image.Image:
    pen = ImageDraw.Draw(picture)
    for y in range(7, picture.height, 25):
        pen.line([(0, y), (picture.width, y)], (170, 190, 215), 1)
    pen.line([*[(100 + x * 105, 60 + y * 150) for x, y in SEVEN]], (20, 20, 20), 12, joint="curve")
    return picture


WAYS: dict[str, Callable[[], Image.Image]] = {
    "corner": lambda: draw(corner=(10, 10)),
    "small": lambda: draw(height=40, pen=4),
    "large": lambda: draw((2000, 1500), (500, 300), 900, 72),
    "light on dark": lambda: draw(ink=(220, 220, 210), paper=(30, 60, 45)),
    "blue": lambda: draw(ink=(30, 40, 160)),
    "yellow": lambda: draw(ink=(240, 220, 20), paper=(250, 250, 250)),
    "shaded": lambda: shaded(draw()),
    "lined": lambda: lined(draw()),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_paper_pen_and_place_do_not_matter(way: str, expected: NDArray[numpy.uint8]) -> None:
    assert difference(framed(WAYS[way]()), expected) < 0.3


@pytest.mark.parametrize("pen", [3, 45])
def test_thin_and_thick_pens_become_as_wide_as_mnist_s(pen: int, expected: NDArray[numpy.uint8]) -> None:
    image = framed(draw(pen=pen))
    assert 0.5 < image.sum(dtype=float) / expected.sum(dtype=float) < 2.2


KINDS: dict[str, Callable[[Image.Image], io.BytesIO]] = {
    "JPEG": lambda picture: stored(picture, "jpeg", quality=80),
    "CMYK JPEG": lambda picture: stored(picture.convert("CMYK"), "jpeg", quality=90),
    "palette": lambda picture: stored(picture.quantize(16)),
    "1 bit": lambda picture: stored(picture.convert("1", dither=Image.Dither.NONE)),
    "16 bits": lambda picture: stored(Image.fromarray(numpy.asarray(picture.convert("L")).astype(numpy.uint16) * 16)),
    "32 bits": lambda picture: stored(picture.convert("F"), "tiff"),
    "transparent": lambda picture: stored(
        Image.merge("LA", (Image.new("L", picture.size), picture.convert("L").point(lambda value: 225 - value)))
    ),
    "animated GIF": lambda picture: stored(picture, "gif", save_all=True, append_images=[Image.new("RGB", (400, 300))]),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_image_of_any_kind_is_read(kind: str, expected: NDArray[numpy.uint8]) -> None:
    assert difference(frame_digit(open_image(KINDS[kind](draw()))).image, expected) < 0.1


def test_a_photo_is_turned_as_its_exif_data_say(expected: NDArray[numpy.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = draw((1600, 1200), (400, 240), 600, 48).transpose(Image.Transpose.ROTATE_90)
    assert difference(framed(turned, "jpeg", exif=exif), expected) < 0.2


def test_the_largest_of_several_digits_is_framed_and_the_others_are_counted(expected: NDArray[numpy.uint8]) -> None:
    picture = draw((500, 300))
    picture.paste(draw((150, 150), (20, 30), 90, 10, stroke=ZERO), (300, 50))
    digit = frame_digit(open_image(stored(picture)))
    assert digit.groups == 2
    assert digit.inverted
    assert difference(digit.image, expected) < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (400, 300)])
def test_an_image_without_a_stroke_is_one_line(size: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", size, 200).save("a.png")
    reader = Reader((1, 28, 28), 10, frame="auto")
    assert list(reader.batches(["a.png"])) == []
    message = "error: a.png cannot be read: no digit is found in it; frame=none predicts the whole image\n"
    assert (reader.skipped, capsys.readouterr().err) == (1, message)


def test_auto_leaves_images_of_the_size_of_mnist_alone(capsys: pytest.CaptureFixture[str]) -> None:
    draw((28, 28), (2, 2), 10, 2, 255, 0).convert("L").save("small.png")
    picture = draw()
    picture.paste(draw((100, 120), (10, 10), 80, 10), (290, 60))
    picture.save("photo.png")
    images = {}
    for frame in ("auto", "none", "mnist"):
        reader = Reader((1, 28, 28), 10, frame=frame)
        ((rows, batch),) = reader.batches(["small.png", "photo.png"])
        images[frame] = batch[:, 0].numpy()
        assert [row["inverted"] for row in rows] == [False, True]
        assert reader.framed == {"auto": 1, "none": 0, "mnist": 2}[frame]
    assert (images["auto"][0] == numpy.asarray(Image.open("small.png"))).all()
    assert (images["auto"][0] == images["none"][0]).all()
    assert (images["auto"][1] == images["mnist"][1]).all()
    assert (images["mnist"][0] != images["none"][0]).any()
    warning = "warning: photo.png: 2 groups of strokes were found; the largest is predicted\n"
    assert capsys.readouterr().err == 2 * warning
