"""Pixels of an image that nobody vouches for: four formats, known by their content, of a size that is checked first.

Pillow reads some thirty formats more, one of them (EPS) by starting another program; none of them is tried here. What
is packed beside the pixels (text, colour profiles) is limited by Pillow to a megabyte unpacked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from normexport.errors import MissingComponent, UsageError
from normexport.io.opening import File, opened

if TYPE_CHECKING:
    from PIL import Image, ImageFile

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
#: Decoders hold up to 16 bytes a pixel (an animated WebP): 0.8 GB. Cameras make up to 45 megapixels.
MOST_PIXELS = 50_000_000
REMEDY = "take it out of the folder"


def read_image(path: File, mode: str, work: Callable[[Image.Image], T]) -> T:
    """What `work` makes of a PNG, JPEG, BMP or WebP file: of its pixels in `mode`, "L" for grey or "RGB".

    Of an animation the first picture; turned as it is stored, whatever its EXIF data says.

    Raises:
        UsageError: another format, damaged, or of too many pixels; what `work` raises.
        MissingComponent: Pillow is not installed.
    """
    with _opened_image(path) as image, _named(path):
        converted = image.convert(mode)
    return work(converted)


def check_image(path: File) -> None:
    """Look at the header alone.

    Raises:
        UsageError, MissingComponent: see `read_image`; damage further on is not seen.
    """
    with _opened_image(path):
        pass


@contextmanager
def _opened_image(path: File) -> Iterator[ImageFile.ImageFile]:
    with opened(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is odd; what it can't read it refuses
        with _named(path):
            image = _image(file)
        if image.width * image.height > MOST_PIXELS:
            cause = f"has {image.width} x {image.height} pixels, and {MOST_PIXELS // 10**6} million are the most"
            raise UsageError(str(path), cause, REMEDY)
        yield image


@contextmanager
def _named(path: File) -> Iterator[None]:
    """Whatever Pillow raises is said of the file."""
    try:
        yield
    except ImportError as error:
        raise MissingComponent("PIL", "is not installed", "run: pip install pillow") from error
    except Exception as error:  # Pillow raises what its decoders happen to meet, SyntaxError among them
        cause = "is not an image that can be read (PNG, JPEG, BMP or WebP)"
        raise UsageError(str(path), cause, REMEDY) from error


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
