"""Stores of many samples and of what was seen of them: tar shards, Parquet files, states of calibrations."""

from __future__ import annotations

import io
import json
import tarfile
from functools import cache

import numpy as np

from tests.fuzz import hostile, pictures, raw, seeds, trees
from tests.fuzz.cases import Case, Content
from tests.fuzz.dice import Dice

#: Strings that a state takes seriously.
_STATE_STRINGS = ("calibration state", "1 2 3", "0", "", "0" * 32, "f" * 64, "ONNX Runtime 1.0", "input")
_SHAPE = (3, 8, 8)
#: Fields of a ustar header: where they begin, and their bytes.
_FIELDS = {"name": (0, 100), "mode": (100, 8), "size": (124, 12), "mtime": (136, 12), "kind": (156, 1),
    "link": (157, 100), "magic": (257, 8), "prefix": (345, 155),
}  # fmt: skip
_BLOCK = 512
#: What a header can be of: files, links, devices, folders, headers of headers, files with holes.
_KINDS = b"0123567xgLKSX\0"


@cache
def _npy(number: int) -> bytes:
    out = io.BytesIO()
    np.save(out, np.full(_SHAPE, number, np.float32))
    return out.getvalue()


@cache
def _archive(style: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for number in range(4):
            picture = number % 2 == 0
            content = pictures.honest(".png") if picture else _npy(number)
            stem = f"folder/{number:04}" + "x" * (150 if number == 3 and style != tarfile.USTAR_FORMAT else 0)
            for name, held in ((f"{stem}.{'png' if picture else 'npy'}", content), (f"{stem}.cls", b"%d" % number)):
                header = tarfile.TarInfo(name)
                header.size = len(held)
                archive.addfile(header, io.BytesIO(held))
    return out.getvalue()


def _with_checksum(block: bytes) -> bytes:
    """A header whose sum says what it holds."""
    total = sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
    return block[:148] + b"%06o\0 " % total + block[156:]


def _headers(data: bytes) -> list[int]:
    """Where the headers are, as far as sizes tell."""
    found, at = [], 0
    while at + _BLOCK <= len(data) and any(data[at : at + _BLOCK]):
        found.append(at)
        size = data[at + 124 : at + 136].split(b"\0")[0].strip()
        at += _BLOCK + -(-int(size or b"0", 8) // _BLOCK) * _BLOCK
    return found


def _tar(data: bytes, dice: Dice) -> tuple[bytes, str]:
    """An archive with one change, mostly of a field of a header, whose sum then fits."""
    if dice.chance(15):
        return raw.mutate(data, dice)
    at = dice.one_of(_headers(data))
    if dice.chance(15):
        block = _with_checksum(bytes(data[at : at + _BLOCK]))
        times = dice.one_of((1, 2, 3000))
        return data[:at] + block * times + data[at:], f"header at {at} {times} times more"
    field = dice.one_of(sorted(_FIELDS))
    start, length = _FIELDS[field]
    made = {
        "size": lambda: dice.one_of((b"%011o" % (abs(hostile.integer(dice)) % 2**33), b"\x80" + dice.randbytes(11),
            b"\xff" * 12, b"-0000000001", b"\x80" + b"\0" * 10 + b"\1")),
        "kind": lambda: bytes([dice.one_of(_KINDS)]),
    }.get(field, lambda: dice.one_of(hostile.NAMES).encode("utf-8", "surrogatepass"))()  # fmt: skip
    value = made[:length].ljust(length, b"\0")
    block = data[at : at + start] + value + data[at + start + length : at + _BLOCK]
    return data[:at] + _with_checksum(block) + data[at + _BLOCK :], f"{field} at {at} {value[:20]!r}"


def shard(dice: Dice) -> Case:
    """`.tar`: shards of images and arrays."""
    style = dice.one_of((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    data, steps = _archive(style), [str(style)]
    for _ in range(dice.few()):
        data, change = raw.unless(_tar, data, dice)
        steps.append(change)
    files: dict[str, Content] = {"data/a.tar": data, "data/b.tar": _archive(tarfile.USTAR_FORMAT)}
    words = dice.choices((("samples", "data"), ("samples", "data/*.tar"), ("labels", "data")), (50, 25, 25))[0]
    return Case(files, words, tuple(steps))


@cache
def _table() -> bytes:
    import pyarrow as arrow
    from pyarrow import parquet

    flat = np.arange(6 * 192, dtype=np.float32)
    columns = {
        "input": arrow.FixedSizeListArray.from_arrays(flat, 192),
        "label": [0, 1, 2, 0, 1, 2],
        "picture": [{"bytes": pictures.honest(".png"), "path": "../secret.bin"}] * 6,
    }
    out = io.BytesIO()
    parquet.write_table(arrow.table(columns), out, row_group_size=2)
    return out.getvalue()


def table(dice: Dice) -> Case:
    """`.parquet`: bytes, and the numbers of its footer."""
    data, steps = _table(), []
    for _ in range(dice.few()):
        if dice.chance(70):  # the footer says all that there is to know
            size = int.from_bytes(_table()[-8:-4], "little")
            footer, words = raw.mutate(data[-8 - size : -8], dice)
            data = data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"
        else:
            data, words = raw.mutate(data, dice)
        steps.append(words)
    words_ = dice.choices((("samples", "a.parquet"), ("labels", "a.parquet")), (70, 30))[0]
    return Case({"a.parquet": data}, words_, tuple(steps))


def state(dice: Dice) -> Case:
    """States of calibrations: one that is read for its network, or added to another by the command line."""
    honest = seeds.calibration_state()
    data, steps = honest, []
    for _ in range(dice.few()):
        if dice.chance(35):
            data, words = raw.unless(trees.mutate_plausibly, data, dice)
        else:
            data, words = raw.unless(trees.mutate, data, dice, _STATE_STRINGS)
        steps.append(words)
    files: dict[str, Content] = {"a.json": data}
    if dice.chance(50):
        other = json.loads(honest)
        other["seen"] = {"0" * 64: next(iter(other["seen"].values()))}
        files["b.json"] = json.dumps(other).encode()
        return Case(files, ("calibrate", "merge", "a.json", "b.json", "-o", "out.json"), tuple(steps))
    files["model.onnx"] = seeds.graphs()["folded"]["model.onnx"]
    return Case(files, ("state", "a.json", "model.onnx"), tuple(steps))
