"""Pickles written by hand, instruction by instruction, for what torch.save would never write."""

from __future__ import annotations

import struct
import zipfile

FOUR = struct.pack("<4f", 1, 2, 3, 4)  # the data of a storage of four floats


def pickle(body):
    return b"\x80\x02" + body + b"."


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(number(value) for value in values) + b"t"


def put(index):
    return b"r" + struct.pack("<I", index)


def get(index):
    return b"j" + struct.pack("<I", index)


def call(function, *args):
    return function + b"(" + b"".join(args) + b"tR"


def mapping(**entries):
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def tensor(count=4, size=(4,), stride=(1,), offset=0, storage="FloatStorage", key="0"):
    """`_rebuild_tensor_v2` of a storage of `count` elements."""
    reference = b"(" + text("storage") + name("torch", storage) + text(key) + text("cpu") + number(count) + b"tQ"
    hooks = call(name("collections", "OrderedDict"))
    place = number(offset) + numbers(size) + numbers(stride)
    return call(name("torch._utils", "_rebuild_tensor_v2"), reference, place, b"\x89", hooks)


def write(path, body, data=None, deflated=False, **others):
    """An archive as torch.save writes it, with this pickle and these storages."""
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("m/data.pkl", pickle(body))
        for key, content in (data or {}).items():
            archive.writestr(f"m/data/{key}", content)
        for key, content in others.items():
            archive.writestr(f"m/{key}", content)
    return path
