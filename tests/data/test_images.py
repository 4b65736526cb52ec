"""Pictures of any size become images of the network's size."""

import io

import numpy
from PIL import Image

from backlit.data.images import open_image, to_shape


def test_an_image_is_resized_without_distortion() -> None:
    tall = Image.new("L", (100, 200), 250)
    tall.paste(10, (0, 50, 100, 150))  # a square of the picture's width
    file = io.BytesIO()
    tall.save(file, "png")
    small = to_shape(open_image(file), 28, 28)
    assert small.shape == (28, 28)
    dark = numpy.argwhere(small < 128)
    assert (dark.max(0) - dark.min(0) + 1).tolist() == [14, 14]
    assert set(small[:, [0, -1]].flatten().tolist()) == {250}
