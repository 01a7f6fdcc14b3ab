"""Pixels of an image that nobody vouches for: four formats, known by their content, of a size that is checked first.

Pillow reads some thirty formats more, one of them (EPS) by starting another program; none of them is tried here. What
is packed beside the pixels (text, colour profiles) is limited by Pillow to a megabyte unpacked.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from normexport.errors import MissingComponent, UsageError
from normexport.io.opening import opened

if TYPE_CHECKING:
    from PIL import ImageFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
#: Decoders hold up to 16 bytes a pixel (an animated WebP): 0.8 GB. Cameras make up to 45 megapixels.
MOST_PIXELS = 50_000_000
_REMEDY = "take it out of the folder"


def read_pixels(path: Path, channels: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(height, width, channels) of a PNG, JPEG, BMP or WebP file, resized; grey where `channels` is 1, else RGB.

    Of an animation the first picture; turned as it is stored, whatever its EXIF data says.

    Raises:
        UsageError: another format, damaged, or of too many pixels.
        MissingComponent: Pillow is not installed.
    """
    if height * width > MOST_PIXELS:
        cause = f"would become {width} x {height} pixels, and {MOST_PIXELS // 10**6} million are the most"
        raise UsageError(str(path), cause, "save the samples as .npy")
    with opened(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is odd; what it can't read it refuses
        try:
            image = _image(file)
            if image.width * image.height <= MOST_PIXELS:
                resized = image.convert("L" if channels == 1 else "RGB").resize((width, height))
                return np.asarray(resized).reshape(height, width, channels)
        except ImportError as error:
            raise MissingComponent("PIL", "is not installed", "run: pip install pillow") from error
        except Exception as error:  # Pillow raises what its decoders happen to meet, SyntaxError among them
            cause = "is not an image that can be read (PNG, JPEG, BMP or WebP)"
            raise UsageError(str(path), cause, _REMEDY) from error
    cause = f"has {image.width} x {image.height} pixels, and {MOST_PIXELS // 10**6} million are the most"
    raise UsageError(str(path), cause, _REMEDY)


def _image(file: BinaryIO) -> ImageFile.ImageFile:
    """The image, of which only the header is read. Its class is called itself: `Image.open` would try others too."""
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    begin = file.read(12)
    file.seek(0)
    kinds: dict[bytes, Any] = {
        b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
        b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
    }
    if begin[:4] == b"RIFF" and begin[8:] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(file)
    for magic, kind in kinds.items():
        if begin.startswith(magic):
            image: ImageFile.ImageFile = kind(file)
            return image
    raise ValueError("another format")
