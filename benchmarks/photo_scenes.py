"""Photos of digits on paper, rendered from MNIST's test set or drawn, of known kinds.

The strokes of a digit are put on a sheet of paper (tint, grain, ruled lines), the sheet is turned and tilted, lit
(gradient, vignette, a shadow with an edge), and photographed (blur, noise, sRGB, JPEG). All is seeded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Floats = NDArray[numpy.float32]
Range = tuple[float, float]
Colour = tuple[float, float, float]
BLACK: tuple[Colour, ...] = ((0.02, 0.02, 0.03),)
BLUE: tuple[Colour, ...] = ((0.03, 0.06, 0.45),)
PENS = (*BLUE, (0.55, 0.03, 0.05), (0.02, 0.3, 0.08), (0.8, 0.25, 0.02), (0.35, 0.05, 0.4))


@dataclass(frozen=True)
class Scene:
    """One kind of photo.

    Args:
        size: Width and height in pixels.
        height: The digit's height as a fraction of the photo's smaller side.
        spread: How far the digit's middle may be from the photo's, as a fraction of what leaves it inside.
        width: Width of the pen as a fraction of the digit's height; None for MNIST's own strokes.
        pens: Reflectances (red, green, blue) to choose from; of the chalk if `board`.
        light: Light at the darkest end of the gradient, of 1 at the other.
        shadow: Whether a shadow with an edge falls on the paper.
        lines: Reflectance of the paper's ruled lines; None for blank paper.
        table: Whether the photo shows the paper's edge and a dark table beside it.
        board: Whether the background is a blackboard.
        digits: How many digits are beside each other.
        source: Where the digits are from.
        save: Saves the photo, if not as usual.
    """

    size: tuple[int, int] = (640, 480)
    height: Range = (0.35, 0.6)
    spread: float = 0.3
    width: Range | None = None
    pens: tuple[Colour, ...] = BLACK
    light: Range = (0.7, 1.0)
    shadow: bool = False
    lines: Colour | None = None
    table: bool = False
    board: bool = False
    digits: int = 1
    source: str = "mnist"
    save: Callable[[Image.Image, Path, Generator], None] | None = None


def save_rotated(photo: Image.Image, path: Path, random: Generator) -> None:
    """Save 12 megapixels as a phone does that was held upright: turned, with the turn in the EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo.resize((4000, 3000), Image.Resampling.BICUBIC).transpose(Image.Transpose.ROTATE_90)
    turned.save(path, quality=90, exif=exif)


SCENES = {
    "centred": Scene(spread=0),
    "off-centre": Scene(spread=1, height=(0.25, 0.45)),
    "small": Scene(spread=0.9, height=(0.08, 0.15), width=(0.08, 0.13)),
    "thin": Scene(width=(0.015, 0.03)),
    "thick": Scene(width=(0.18, 0.25)),
    "shaded": Scene(light=(0.2, 0.4), shadow=True),
    "coloured": Scene(pens=PENS, width=(0.04, 0.12)),
    "lined": Scene(lines=(0.45, 0.6, 0.8), width=(0.06, 0.12), pens=BLACK + BLUE, height=(0.2, 0.45)),
    "blackboard": Scene(board=True, pens=((0.75, 0.75, 0.7),), width=(0.07, 0.13)),
    "on a table": Scene(table=True, width=(0.06, 0.12), pens=BLACK + BLUE, height=(0.2, 0.35)),
    "12 MP, EXIF": Scene(size=(800, 600), spread=0.8, height=(0.15, 0.45), width=(0.05, 0.12), save=save_rotated),
    "drawn": Scene(source="drawn", width=(0.05, 0.15)),
    "printed": Scene(source="printed"),
    "two digits": Scene(digits=2, height=(0.25, 0.4), spread=0.6),
    "blank": Scene(digits=0),
}

# Strokes of digits as a hand draws them, in a box of 1 × 1: x to the right, y down. One list a stroke.
STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [[(0.5, 0), (0.2, 0.15), (0.1, 0.5), (0.2, 0.85), (0.5, 1), (0.8, 0.85), (0.9, 0.5), (0.8, 0.15), (0.5, 0)]],
    1: [[(0.35, 0.2), (0.55, 0), (0.52, 0.5), (0.5, 1)]],
    2: [[(0.15, 0.25), (0.3, 0.03), (0.65, 0), (0.85, 0.25), (0.6, 0.6), (0.1, 1), (0.9, 0.97)]],
    3: [
        [(0.15, 0.1), (0.5, 0), (0.8, 0.2), (0.65, 0.42), (0.4, 0.48), (0.75, 0.55), (0.85, 0.8), (0.5, 1), (0.1, 0.9)]
    ],
    4: [[(0.5, 0), (0.1, 0.6), (0.9, 0.58)], [(0.7, 0.3), (0.66, 1)]],
    5: [[(0.25, 0), (0.2, 0.45), (0.6, 0.42), (0.85, 0.68), (0.65, 0.95), (0.15, 0.97)], [(0.25, 0), (0.85, 0.02)]],
    6: [[(0.7, 0), (0.35, 0.25), (0.15, 0.65), (0.3, 0.97), (0.7, 0.97), (0.82, 0.72), (0.55, 0.55), (0.2, 0.7)]],
    7: [[(0.1, 0.03), (0.9, 0), (0.6, 0.45), (0.4, 1)]],
    8: [
        [(0.75, 0.1), (0.45, 0), (0.2, 0.2), (0.5, 0.45), (0.85, 0.75), (0.5, 1), (0.15, 0.8), (0.5, 0.45), (0.75, 0.1)]
    ],
    9: [[(0.8, 0.25), (0.5, 0), (0.2, 0.2), (0.35, 0.47), (0.8, 0.25), (0.75, 0.6), (0.65, 1)]],
}
FONTS = ["DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10"]


def thinned(mask: NDArray[numpy.bool_]) -> NDArray[numpy.bool_]:
    """Return the skeleton of a mask (T. Y. Zhang and C. Y. Suen 1984, doi:10.1145/357994.358023)."""
    mask = numpy.pad(mask, 1)
    while True:
        before = mask.sum()
        for step in (0, 1):
            turns = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
            p = [numpy.roll(mask, (-y, -x), (0, 1)) for y, x in turns]
            count = sum(one.astype(int) for one in p)
            changes = sum((~p[i] & p[(i + 1) % 8]).astype(int) for i in range(8))
            first = p[0] & p[2] & p[4] if step == 0 else p[0] & p[2] & p[6]
            second = p[2] & p[4] & p[6] if step == 0 else p[0] & p[4] & p[6]
            mask = mask & ~((count >= 2) & (count <= 6) & (changes == 1) & ~first & ~second)
        if mask.sum() == before:
            return mask[1:-1, 1:-1]


def drawn(digit: int, random: Generator) -> NDArray[numpy.bool_]:
    """Return the strokes of a digit as a thin mask, its points moved at random, its curves rounded."""
    image = Image.new("L", (224, 320))
    pen = ImageDraw.Draw(image)
    slant = random.uniform(-0.1, 0.35)
    for stroke in STROKES[digit]:
        points = numpy.array(stroke) + random.normal(0, 0.025, (len(stroke), 2))
        points[:, 0] = points[:, 0] * random.uniform(0.85, 1.1) - slant * (points[:, 1] - 0.5)
        places = numpy.linspace(0, len(points) - 1, 100)
        dense = numpy.stack([numpy.interp(places, range(len(points)), points[:, i]) for i in (0, 1)], 1)
        smooth = ndimage.gaussian_filter1d(dense, 4, axis=0, mode="nearest") * [150, 240] + [37, 40]
        pen.line([tuple(point) for point in smooth.tolist()], 255, 2)
    return numpy.asarray(image) > 127


def printed(digit: int, random: Generator) -> NDArray[numpy.bool_]:
    """Return a digit in a font that comes with matplotlib."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    image = Image.new("L", (224, 320))
    font = ImageFont.truetype(str(folder / f"{random.choice(FONTS)}.ttf"), 220)
    ImageDraw.Draw(image).text((112, 160), str(digit), 255, font, anchor="mm")
    return numpy.asarray(image) > 127


def ink_of(mask: NDArray[numpy.bool_], height: float, width: float | None) -> Image.Image:
    """Return the ink of a digit, 0 to 255, cropped.

    Args:
        mask: The digit's strokes.
        height: Its height in pixels.
        width: Width of the pen as a fraction of the height; None for the strokes as they are.
    """
    rows, columns = (numpy.flatnonzero(mask.any(axis)) for axis in (1, 0))
    mask = numpy.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 60)
    tall = rows[-1] - rows[0] + 1
    if width is not None:
        distance = ndimage.distance_transform_edt(~thinned(mask))
        mask = distance <= width * tall / 2
    scale = height / tall
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    return Image.fromarray(mask.astype(numpy.uint8) * 255).resize(size, Image.Resampling.BOX if scale < 1 else 3)


def grain(size: tuple[int, int], sigma: float, random: Generator) -> Floats:
    """Return smooth noise of mean 0 and standard deviation 1, shape ``(height, width)``."""
    noise = ndimage.gaussian_filter(random.standard_normal(size[::-1], numpy.float32), sigma)
    result: Floats = noise / noise.std()
    return result


def paper(scene: Scene, size: tuple[int, int], random: Generator) -> Floats:
    """Return a sheet's reflectance, shape ``(height, width, 3)``."""
    width, height = size
    base = numpy.array([0.05, 0.1, 0.07]) if scene.board else random.uniform(0.8, 0.95) - numpy.array([0, 0.01, 0.05])
    blotches = numpy.asarray(Image.fromarray(grain((width // 40, height // 40), 1, random)).resize(size))
    sheet: Floats = (1 + 0.012 * grain(size, 1.5, random) + 0.012 * blotches)[..., None] * base.astype(numpy.float32)
    if scene.lines:
        step, thick = random.uniform(0.05, 0.1) * height, random.uniform(1.5, 3)
        on = (numpy.arange(height) + random.uniform(0, step)) % step < thick
        place = int(width * random.uniform(0.2, 0.35))
        sheet[:, place : place + 2] *= (0.85, 0.4, 0.4)
        sheet[on] *= scene.lines
    if scene.table:
        across = int(width * random.uniform(0.2, 0.3))
        sheet[:, :across] = random.uniform(0.02, 0.3) * (1 + 0.1 * grain(size, 3, random)[:, :across, None])
        sheet = numpy.rot90(sheet, 2) if random.random() < 0.5 else sheet
    return sheet


def tilted(sheet: Floats, size: tuple[int, int], random: Generator) -> Floats:
    """Return the middle of a sheet, turned by up to 10° and seen from a side."""
    width, height = size
    angle = math.radians(random.uniform(-10, 10))
    corners = numpy.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * [width / 2, height / 2]
    corners = corners * (1 + random.uniform(-0.06, 0.06, (4, 2)))
    turn = numpy.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    quad = (corners @ turn.T + [sheet.shape[1] / 2, sheet.shape[0] / 2]).flatten().tolist()
    planes = [
        Image.fromarray(sheet[..., i]).transform(size, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
        for i in range(3)
    ]
    return numpy.stack([numpy.asarray(plane) for plane in planes], -1)


def lit(scene: Scene, size: tuple[int, int], random: Generator) -> Floats:
    """Return the light that falls on each pixel, 0 to 1, shape ``(height, width, 1)``."""
    x = numpy.linspace(-1, 1, size[0], dtype=numpy.float32)[None]
    y = numpy.linspace(-1, 1, size[1], dtype=numpy.float32)[:, None]
    angle = random.uniform(0, 2 * math.pi)
    along = (x * math.cos(angle) + y * math.sin(angle)) / math.sqrt(2)
    light = 1 - (1 - random.uniform(*scene.light)) * (along + 1) / 2
    light *= 1 - random.uniform(0.1, 0.3) * (x**2 + y**2) / 2
    if scene.shadow:
        angle, edge = random.uniform(0, 2 * math.pi), random.uniform(-0.5, 0.5)
        side = (x * math.cos(angle) + y * math.sin(angle) - edge) / random.uniform(0.02, 0.15)
        light *= 1 - random.uniform(0.3, 0.6) / (1 + numpy.exp(-side.clip(-8, 8) * 4))
    result: Floats = light[..., None]
    return result


def photo_of(masks: list[NDArray[numpy.bool_]], scene: Scene, random: Generator) -> Image.Image:
    """Return a photo of digits on paper."""
    width, height = scene.size
    big = width * 4 // 3, height * 4 // 3
    coverage = Image.new("L", big)
    tall = random.uniform(*scene.height) * height
    pen_width = None if scene.width is None else random.uniform(*scene.width)
    inks = [ink_of(mask, tall, pen_width) for mask in masks]
    room_x = max(0, width * 0.42 - max([ink.width for ink in inks], default=0) * len(inks) * 0.5)
    room_y = max(0, height * 0.42 - tall / 2)
    middle_x = big[0] / 2 + scene.spread * random.uniform(-room_x, room_x)
    middle_y = big[1] / 2 + scene.spread * random.uniform(-room_y, room_y)
    for place, ink in enumerate(inks):
        shift = (place - (len(inks) - 1) / 2) * tall * 0.95
        corner = round(middle_x + shift - ink.width / 2), round(middle_y - ink.height / 2)
        coverage.paste(ink, corner, ink)
    pen = numpy.array(scene.pens[random.integers(len(scene.pens))], numpy.float32)
    pressure = 0.92 - 0.03 * grain(big, 1.5, random)
    amount = (numpy.asarray(coverage, numpy.float32) / 255 * pressure)[..., None]
    sheet = paper(scene, big, random)
    sheet = sheet * (1 - amount) + (pen if scene.board else sheet * pen) * amount
    scenery = tilted(sheet, scene.size, random).clip(0, 1) * lit(scene, scene.size, random)
    blur = random.uniform(0.4, 1.4)
    seen = ndimage.gaussian_filter(scenery, (blur, blur, 0)) * numpy.float32(random.uniform(0.8, 1.05))
    seen = (seen + 0.008 * random.standard_normal(seen.shape, numpy.float32)).clip(0, 1)
    encoded = numpy.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** numpy.float32(1 / 2.4) - 0.055)  # sRGB
    return Image.fromarray((255 * encoded).round().astype(numpy.uint8))


def render(kind: str, n: int, folder: Path, test: Any) -> list[int]:
    """Write n photos of a kind, and return their digits, the first one of several."""
    folder.mkdir(parents=True)
    labels = []
    for index in range(n):
        random = numpy.random.default_rng([index, *kind.encode()])
        if kind in ("28×28", "280×280"):
            image, label = Image.fromarray(test.data[index].numpy()), int(test.targets[index])
            size = int(kind.split("×")[0])
            image.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{index:04}.png")
            labels.append(label)
            continue
        scene = SCENES[kind]
        masks, chosen = [], []
        for number in random.integers(0, len(test.data), max(1, scene.digits)).tolist():
            label = int(test.targets[number])
            chosen.append(label)
            if scene.source == "mnist":
                smooth = Image.fromarray(test.data[number].numpy()).resize((224, 224), Image.Resampling.BICUBIC)
                masks.append(numpy.asarray(smooth) > 127)
            else:
                masks.append({"drawn": drawn, "printed": printed}[scene.source](label, random))
        photo, path = photo_of(masks[: scene.digits], scene, random), folder / f"{index:04}.jpg"
        if scene.save:
            scene.save(photo, path, random)
        else:
            photo.save(path, quality=int(random.integers(60, 96)))
        labels.append(chosen[0])
    return labels
