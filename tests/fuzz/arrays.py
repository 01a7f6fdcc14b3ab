"""`.npy` files: the header's words and lengths, and arrays that numpy writes but no model reads."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz import hostile, raw
from tests.fuzz.dice import Dice

_DTYPES = (
    "<f4", ">f4", "<f8", "<f2", "|O", "O", "|O8", "|V4", "|S4", "<U4", "<M8[ns]", "<m8", "|b1", "|i1", "<i4", "<i8",
    "<u8", "<c8", "<c16", "<f16", "<f3", "f", "", "<", "V0", "S0", "|V2147483647", "<U99999999", "T", "2f4", "(3,)f4",
    "f4,f4", "<f4,O", "object", "float32", "int", "e", "g", "G", "p", "P", "?", "no such type", "f4" * 500,
    "(1000000,1000000)f4", "f4:align", "|f4", "=f4", "V-1",
)  # fmt: skip
_STRUCTURES: tuple[list[Any], ...] = (
    [("a", "<f4")], [("a", "|O")], [("a", "<f4"), ("a", "<f4")], [("", "<f4")], [("a", "<f4", (10**6, 10**6))], [],
    [("a",)], [(("title", "name"), "<f4")], [("a", [("b", [("c", "<f4")])])],
)  # fmt: skip


def mutate(data: bytes, dice: Dice) -> tuple[bytes, str]:
    """A `.npy` file with one change, and that change in words."""
    way = dice.choices(("header", "array", "bytes", "length", "version", "body"), (50, 20, 8, 8, 7, 7))[0]
    head, body = _split(data)
    if way == "header":
        changed, words = _header(head, dice)
        return _joined(changed, body, dice), f"header {words}"
    if way == "array":
        return _foreign(dice)
    if way == "length":
        length = dice.one_of((0, 1, 10, 0xFFFF, len(head) - 1, len(head) + 64))
        return data[:8] + struct.pack("<H", length) + data[10:], f"header of {length} bytes"
    if way == "version":
        version = dice.one_of((b"\x00\x00", b"\x02\x00", b"\x03\x00", b"\x04\x00", b"\xff\xff", b"\x01\x01"))
        return data[:6] + version + data[8:], f"version {version!r}"
    if way == "body":
        at = dice.randrange(len(body) + 1)
        return _joined(
            head, dice.one_of((body[:at], b"", body + body, b"\xff" * len(body), body[1:])), dice
        ), "data cut or longer"
    return raw.mutate(data, dice)


def _split(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack("<H", data[8:10])
    return data[10 : 10 + length], data[10 + length :]


def _joined(head: bytes, body: bytes, dice: Dice) -> bytes:
    """As version 1, or 2 and 3 where the header is long."""
    head = head.rstrip(b"\n ")
    wide = len(head) > 65000 or dice.chance(10)
    head += b" " * (-(len(head) + (13 if wide else 11)) % 64) + b"\n"
    if wide:
        return b"\x93NUMPY" + dice.one_of((b"\x02\x00", b"\x03\x00")) + struct.pack("<L", len(head)) + head + body
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def _header(head: bytes, dice: Dice) -> tuple[bytes, str]:
    fields = {"descr": "'<f4'", "fortran_order": "False", "shape": str(_shape(head))}
    way = dice.one_of(
        ("dtype", "structure", "shape", "shape", "shape", "order", "key", "extra", "code", "deep", "text")
    )
    if way == "dtype":
        fields["descr"] = repr(dice.one_of(_DTYPES))
    elif way == "structure":
        fields["descr"] = repr(dice.one_of(_STRUCTURES))
    elif way == "shape":
        fields["shape"] = dice.one_of((
            "()", "(0,)", "(-1,)", f"({hostile.integer(dice)},)", f"({hostile.integer(dice)}, {hostile.integer(dice)})",
            "[2]", "2", "None", "(2.0,)", "(True,)", "('2',)", str((1,) * 70), str((10**6,) * 5), f"{_shape(head)[1:]}",
            str((10**12, 0)), "(2**62, 4)", str((10**9, *_shape(head)[1:])), str((0, *_shape(head)[1:])),
            str(tuple(reversed(_shape(head)))), "(" + "9" * 5000 + ",)",
        ))  # fmt: skip
    elif way == "order":
        fields["fortran_order"] = dice.one_of(("True", "None", "1", "'False'", "[]"))
    elif way == "key":
        del fields[dice.one_of(sorted(fields))]
    elif way == "extra":
        fields[hostile.text(dice)] = "0"
    elif way == "code":
        fields[dice.one_of(sorted(fields))] = dice.one_of(hostile.CODE)
    elif way == "deep":
        fields["shape"] = "(" * 5000 + ")" * 5000
    else:
        odd = dice.one_of(
            (
                b"",
                b"{}",
                b"0",
                b"{'descr'",
                b"\x00" * 100,
                b"{1: 2}",
                b"\xff\xfe{}",
                b"[" * 3000,
                dice.one_of(hostile.CODE).encode(),
            )
        )
        return odd, "text"
    return ("{" + ", ".join(f"{key!r}: {value}" for key, value in fields.items()) + ", }").encode(
        "utf-8", "replace"
    ), way


def _shape(head: bytes) -> tuple[int, ...]:
    words = head.partition(b"'shape': (")[2].partition(b")")[0]
    return tuple(int(word) for word in words.split(b",") if word.strip())


def _foreign(dice: Dice) -> tuple[bytes, str]:
    """An array that numpy writes: pickled objects, dates, infinities, other ranks, other types."""
    with np.errstate(all="ignore"):
        arrays: tuple[Callable[[], np.ndarray], ...] = (
            lambda: np.array([_Runs()], dtype=object),
            lambda: np.full((2, 3, 8, 8), dice.one_of(hostile.FLOATS), np.float32),
            lambda: np.zeros((2, 3, 8, 8),
            dice.one_of(("f2", "f8", "i1", "u1", "i4", "i8", "u8", "?", "c8", "S3", "U3", "M8[s]", "m8[s]", "V5"))),
            lambda: np.zeros((2,) * dice.randrange(12), np.float32),
            lambda: np.zeros((dice.one_of((0, 1, 3, 1000)), 3, 8, 8), np.float32),
            lambda: np.zeros((2, 3, 8, 8), ">f4"), lambda: np.asfortranarray(np.ones((2, 3, 8, 8), np.float32)),
            lambda: np.array(dice.one_of((1.0, "text", 3, None)), dtype=None),
            lambda: np.zeros(3, [("a", "f4"), ("b", "O")]),
        )  # fmt: skip
        array = dice.one_of(arrays)()
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue(), f"array of {array.dtype} {array.shape}"


class _Runs:
    """An object whose pickle makes the marker."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (hostile.MARKER,)
