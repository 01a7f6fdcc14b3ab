"""Images that nobody vouches for: four formats, by content, of a size that is looked at before anything is decoded."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from normexport.errors import UsageError
from normexport.io.images import check_image, read_image
from normexport.io.prepared_images import steps_for
from normexport.io.preprocess import Preprocess

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)


def saved(format: str, image: Image.Image | None = None, **options: Any) -> bytes:
    content = io.BytesIO()
    (Image.fromarray(PIXELS) if image is None else image).save(content, format, **options)
    return content.getvalue()


def read_pixels(path: Path, channels: int, height: int, width: int) -> np.ndarray:
    def pixels(image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((width, height))).reshape(height, width, channels)

    return read_image(path, "L" if channels == 1 else "RGB", pixels)


def refused(path: Path, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        read_pixels(path, 3, 4, 4)
    assert len(str(raised.value).splitlines()) == 1


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, bits: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, bits, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


def webp(width: int, height: int) -> bytes:
    """A lossless WebP whose header (14 bits a side, behind its signature) says another size than its data has."""
    content = bytearray(saved("WEBP", lossless=True))
    at = content.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<L", content, at)
    struct.pack_into("<L", content, at, bits >> 28 << 28 | height - 1 << 14 | width - 1)
    return bytes(content)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "BMP"}, {"format": "WEBP", "lossless": True}])
def test_lossless_formats_give_their_pixels_whatever_the_name(
    options: dict[str, Any], name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(saved(**options))
    np.testing.assert_array_equal(read_pixels(tmp_path / name, 3, 12, 9), PIXELS)


def test_a_jpeg_is_close_and_grey_is_one_channel(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    (tmp_path / "x.jpg").write_bytes(saved("JPEG", Image.fromarray(smooth)))
    np.testing.assert_allclose(read_pixels(tmp_path / "x.jpg", 3, 64, 64).astype(int), smooth, atol=8)
    assert read_pixels(tmp_path / "x.jpg", 1, 5, 7).shape == (5, 7, 1)


@pytest.mark.parametrize("format", ["TIFF", "EPS", "GIF", "PPM", "PCX", "TGA", "ICO", "SGI", "PDF", "JPEG2000"])
def test_other_formats_are_refused_whatever_the_name(format: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(saved(format))
    refused(tmp_path / "x.png", "is not an image that can be read")
    with pytest.raises(UsageError, match="is not an image that can be read"):
        check_image(tmp_path / "x.png")


def test_postscript_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({marker}) (w) file closefile\nshowpage\n"
    (tmp_path / "x.png").write_text(program)
    refused(tmp_path / "x.png", "is not an image that can be read")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        png(20_000, 9_000),
        png(2**31 - 1, 2**31 - 1, bits=1),
        b"BM" + struct.pack("<LHHL", 0, 0, 0, 54) + struct.pack("<LllHHLLllLL", 40, 20_000, 9_000, 1, 24, *[0] * 6),
        webp(10_000, 10_000),
        saved("JPEG").replace(struct.pack(">HH", 12, 9), struct.pack(">HH", 60_000, 60_000)),
    ],
    ids=["png", "png of one bit", "bmp", "webp", "jpeg"],
)
@pytest.mark.filterwarnings("error")
def test_too_many_pixels_are_refused_before_they_are_decoded(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    refused(tmp_path / "x.png", "pixels, and 50 million are the most")


def test_a_sample_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(saved("PNG"))
    with pytest.raises(UsageError, match="50 million are the most"):
        steps_for(Preprocess(), (3, 1 << 20, 1 << 20), "float32", "x").read(tmp_path / "x.png")
    Image.new("L", (10_000, 1)).save(tmp_path / "thin.png")  # its short side as the model's, it would have 5e8 pixels
    with pytest.raises(UsageError, match="would become 2240000 x 224 pixels"):
        steps_for(Preprocess(resize=224), (3, 224, 224), "float32", "x").read(tmp_path / "thin.png")


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20))),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(200 << 20))),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(200 << 20))),
    ],
)
def test_packed_text_and_profiles_are_never_unpacked_whole(bomb: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(8, 8, bomb))
    tracemalloc.start()
    with contextlib.suppress(UsageError):
        read_pixels(tmp_path / "x.png", 1, 8, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_taken(format: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 12), colour) for colour in ("red", "blue")]
    (tmp_path / "x.png").write_bytes(
        saved(
            format, frames[0], save_all=True, append_images=frames[1:], **{"lossless": True} if format == "WEBP" else {}
        )
    )
    assert read_pixels(tmp_path / "x.png", 3, 1, 1).ravel().tolist() == [255, 0, 0]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP"])
def test_damaged_images_are_refused_or_read_and_never_anything_else(format: str, tmp_path: Path) -> None:
    rng, whole, outcomes = random.Random(0), saved(format), set()
    for _ in range(60):
        content = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randrange(6)):
            content[rng.randrange(len(content))] = rng.randrange(256) if content else 0
        (tmp_path / "x.png").write_bytes(content)
        try:
            read_pixels(tmp_path / "x.png", 3, 4, 4)
            outcomes.add("read")
        except UsageError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_what_is_no_file_is_refused_and_not_waited_for(make: Callable[..., Any], tmp_path: Path) -> None:
    make(tmp_path / "x.png")
    refused(tmp_path / "x.png", "can't be read")
