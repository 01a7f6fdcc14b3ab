"""Images: sizes that are lies, other formats under the same name, and damage below intact checksums."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.fuzz import hostile, raw
from tests.fuzz.dice import Dice

KINDS = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}

_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(OWNED) (w) file closefile\nshowpage\n%%EOF\n"
_SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'><image href='file:///etc/passwd'/></svg>"


def honest(suffix: str, size: int = 10) -> bytes:
    """A small picture in that format."""
    return encoded(np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3), KINDS[suffix])


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """The pixels in that format."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def mutate(data: bytes, dice: Dice, suffix: str) -> tuple[bytes, str]:
    """A picture with one change, and that change in words."""
    if dice.chance(20):
        return _foreign(dice)
    if suffix == ".png" and dice.chance(70):
        return _png(data, dice)
    if suffix == ".bmp" and dice.chance(70):
        return _bmp(data, dice)
    if suffix == ".jpg" and dice.chance(60):
        return _jpeg(data, dice)
    return raw.mutate(data, dice)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with the right checksum."""
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def _png(data: bytes, dice: Dice) -> tuple[bytes, str]:
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">L", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    way = dice.one_of(("size", "size", "depth", "body", "drop", "twice", "zeros", "added", "text", "palette"))
    if way == "size":
        width, height = (abs(hostile.integer(dice)) % 2**32 for _ in range(2))
        chunks[0] = (b"IHDR", struct.pack(">2L", width, height) + chunks[0][1][8:])
    elif way == "depth":
        chunks[0] = (
            b"IHDR",
            chunks[0][1][:8] + bytes(dice.one_of((0, 1, 2, 3, 4, 6, 7, 8, 16, 255)) for _ in range(5)),
        )
    elif way == "body":
        where = dice.randrange(len(chunks))
        chunks[where] = (chunks[where][0], raw.mutate(chunks[where][1], dice)[0])
    elif way == "drop":
        del chunks[dice.randrange(len(chunks))]
    elif way == "twice":
        chunks.insert(dice.randrange(len(chunks) + 1), dice.one_of(chunks))
    elif way == "zeros":  # a large picture of nothing: 20,000 x 20,000 pixels in 1.2 MB
        side = dice.one_of((3000, 12000, 20000))
        chunks = [
            (b"IHDR", struct.pack(">2L5B", side, side, 8, 2, 0, 0, 0)),
            (b"IDAT", _packed_zeros(side * (3 * side + 1))),
            (b"IEND", b""),
        ]
    else:
        body = {"added": dice.randbytes(30), "text": b"a\0\0" + _packed_zeros(2**27), "palette": bytes(3)}[way]
        kinds = {
            "added": (b"acTL", b"fcTL", b"fdAT", b"eXIf", b"gAMA", b"cHRM", b"tRNS", b"abcd", b"\0\0\0\0"),
            "text": (b"zTXt", b"iCCP", b"iTXt"),
            "palette": (b"PLTE",),
        }
        chunks.insert(1, (dice.one_of(kinds[way]), body))
    return data[:8] + b"".join(chunk(*each) for each in chunks), f"png {way}"


@cache
def _packed_zeros(size: int) -> bytes:
    """A zlib stream of that many zeros, or a few more."""
    packer, block = zlib.compressobj(1), bytes(2**20)
    return b"".join(packer.compress(block) for _ in range(size // 2**20 + 1)) + packer.flush()


def _bmp(data: bytes, dice: Dice) -> tuple[bytes, str]:
    at = dice.one_of((2, 10, 14, 18, 22, 26, 28, 30, 34, 46))
    number = struct.pack("<Q", hostile.integer(dice) % 2**64)[: 2 if at in (26, 28) else 4]
    return data[:at] + number + data[at + len(number) :], f"bmp field at {at}"


def _jpeg(data: bytes, dice: Dice) -> tuple[bytes, str]:
    start = data.find(b"\xff\xc0")
    at = (
        start + 5
        if dice.chance(60)
        else dice.one_of([i for i in range(len(data) - 4) if data[i] == 0xFF and data[i + 1] >= 0xC0] or [2])
    )
    number = struct.pack(">2H", *(abs(hostile.integer(dice)) % 2**16 for _ in range(2)))
    return data[:at] + number + data[at + 4 :], f"jpeg field at {at}"


def _foreign(dice: Dice) -> tuple[bytes, str]:
    """Another format, under a name that promises this one."""
    small = np.zeros((9, 9, 3), np.uint8)
    kinds = (
        "GIF",
        "TIFF",
        "PPM",
        "ICO",
        "TGA",
        "PCX",
        "PDF",
        "SGI",
        "DDS",
        "IM",
        "MSP",
        "XBM",
        "EPS",
        "MPO",
        "AVIF",
        "JPEG2000",
    )
    way = dice.one_of(("eps", "svg", "pickle", "zip", "empty", "mode", *kinds))
    fixed = {"eps": _EPS, "svg": _SVG, "pickle": hostile.payload(dice), "zip": b"PK\3\4" + bytes(40), "empty": b""}
    if way in fixed:
        return fixed[way], f"{way} by content"
    out = io.BytesIO()
    if way == "mode":
        mode = dice.one_of(("1", "L", "P", "RGBA", "I;16", "LA"))
        Image.new(mode, (dice.one_of((1, 9, 300)), dice.one_of((1, 9, 300)))).save(out, "PNG")
        return out.getvalue(), f"mode {mode}"
    picture = Image.fromarray(small)
    try:
        picture.convert("1" if way in ("MSP", "XBM") else "RGB").save(out, way)
    except (OSError, KeyError, ValueError):  # a format that this Pillow can't write
        return _EPS, "eps by content"
    return out.getvalue(), f"{way} by content"
