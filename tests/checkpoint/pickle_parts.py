"""Pickles written by hand, instruction by instruction, for what torch.save would never write."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

FOUR = struct.pack("<4f", 1, 2, 3, 4)  # the data of a storage of four floats


def pickle(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def mapping(**entries: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def tensor(
    count: int = 4,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    storage: str = "FloatStorage",
    key: str = "0",
) -> bytes:
    """`_rebuild_tensor_v2` of a storage of `count` elements."""
    reference = b"(" + text("storage") + name("torch", storage) + text(key) + text("cpu") + number(count) + b"tQ"
    hooks = call(name("collections", "OrderedDict"))
    place = number(offset) + numbers(size) + numbers(stride)
    return call(name("torch._utils", "_rebuild_tensor_v2"), reference, place, b"\x89", hooks)


def write(
    path: Path, body: bytes, data: dict[str, bytes] | None = None, deflated: bool = False, **others: bytes
) -> Path:
    """An archive as torch.save writes it, with this pickle and these storages."""
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("m/data.pkl", pickle(body))
        for key, content in (data or {}).items():
            archive.writestr(f"m/data/{key}", content)
        for key, content in others.items():
            archive.writestr(f"m/{key}", content)
    return path
