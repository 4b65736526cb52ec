"""Image files as images like MNIST's."""

import warnings
from typing import BinaryIO

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps

# Formats that PIL reads itself; for others, such as EPS, it starts another program.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "ICO")


def image_suffixes() -> set[str]:
    """Return the suffixes of the files that `read_image` reads, with their dots, in lower case."""
    Image.init()
    return {suffix for suffix, format in Image.registered_extensions().items() if format in FORMATS}


def open_image(stream: BinaryIO) -> Image.Image:
    """Return an image, of which only the header is read yet.

    Raises:
        Exception: Any exception of PIL, if the file is damaged or not an image, or if the image is so large that PIL
            warns of a decompression bomb (90 million pixels).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(stream, formats=FORMATS)


def to_shape(opened: Image.Image, height: int, width: int) -> NDArray[numpy.uint8]:
    """Return a whole image of any kind as a grey uint8 image of shape ``(height, width)``.

    Images of another aspect ratio are padded with the median pixel of their border.

    Raises:
        Exception: Any exception of PIL, if the file is damaged.
    """
    opened.draft("L", (4 * width, 4 * height))  # a photo's JPEG need not be decoded at its full size
    image = to_8_bits(opened).convert("L")
    padding = 0 if image.width == image.height else int(border_median(numpy.asarray(image)[None])[0])
    return numpy.asarray(ImageOps.pad(image, (width, height), color=padding))


def to_8_bits(opened: Image.Image) -> Image.Image:
    """Return the first frame of an image of any kind, upright and opaque: grey or in colours, 8 bits each.

    Transparent pixels become white if the others are dark on average, black if they are bright. Images of more than
    8 bits are stretched from their darkest to their brightest pixel.
    """
    image = ImageOps.exif_transpose(opened)
    if image.mode[0] in "IF":
        values = numpy.asarray(image, numpy.float64)
        scaled = (values - values.min()) * (255 / max(values.max() - values.min(), 1e-300))
        image = Image.fromarray(scaled.round().astype(numpy.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha, image = image.getchannel("A"), image.convert("L")
        is_bright = numpy.average(numpy.asarray(image), weights=numpy.asarray(alpha) + 1e-9) > 127
        image = Image.composite(image, Image.new("L", image.size, 0 if is_bright else 255), alpha)
    return image if image.mode == "L" else image.convert("RGB")


def border_median(images: NDArray[numpy.uint8]) -> NDArray[numpy.float64]:
    """Return the median of the pixels at the border of images ``(b, h, w)``, shape ``(b,)``."""
    border = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    return numpy.asarray(numpy.median(numpy.concatenate(border, 1), axis=1))
