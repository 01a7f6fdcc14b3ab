"""Zip archives record by record, as PyTorch writes them, and every lie that their headers can hold."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from tests.fuzz import hostile
from tests.fuzz.dice import Dice

STORED, DEFLATED = 0, 8
_ALIGNMENT = 64


@dataclass(frozen=True)
class Record:
    """One member. What stands in a header beside the truth of `data` is in `lies`, by the field's name."""

    name: bytes
    data: bytes
    method: int = STORED
    local_name: bytes | None = None
    listed: bool = True
    shares: bool = False  # the directory points to the data of the record before
    lies: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What stands around the records; `torch`: data descriptors, alignment, a zip64 end, as PyTorch writes."""

    torch: bool = True
    before: bytes = b""
    after: bytes = b""
    comment: bytes = b""
    second: tuple[Record, ...] | None = None  # what the zip64 directory lists, where the plain one lists others
    lies: dict[str, int] = field(default_factory=dict)


def read(data: bytes) -> list[Record]:
    """The records of an honest archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [Record(info.filename.encode(), archive.read(info)) for info in archive.infolist()]


def write(records: list[Record], layout: Layout = Layout()) -> bytes:
    """An archive; of records read from a file that PyTorch wrote, that file byte for byte."""
    out = bytearray(layout.before)
    places: list[int] = []
    for record in records:
        places.append(places[-1] if record.shares and places else len(out))
        if not record.shares:
            out += _local(record, len(out), layout.torch)
    plain = _directory(records, places)
    if layout.second is None:
        start, listed = len(out), sum(record.listed for record in records)
        out += plain
        wide_start, wide_size, wide_count = start, len(plain), listed
    else:
        wide_places = [len(out)]
        for record in layout.second:
            out += _local(record, len(out), layout.torch)
            wide_places.append(len(out))
        wide = _directory(list(layout.second), wide_places)
        wide_start, wide_size, wide_count = len(out), len(wide), len(layout.second)
        out += wide
        start, listed = len(out), sum(record.listed for record in records)
        out += plain
    lies = {"count": listed, "size": len(plain), "start": start, **layout.lies}
    if layout.torch or layout.second is not None:
        end = len(out)
        counts = (lies.get("wide_count", wide_count),) * 2
        wide_end = (lies.get("wide_size", wide_size), lies.get("wide_start", wide_start))
        out += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x031E, 45, 0, 0, *(c % 2**64 for c in (*counts, *wide_end)))
        out += struct.pack("<4sLQL", b"PK\6\7", 0, lies.get("wide_end", end) % 2**64, 1)
    small = (lies["count"] % 2**16, lies["count"] % 2**16, lies["size"] % 2**32, lies["start"] % 2**32)
    out += struct.pack("<4s2H2H2LH", b"PK\5\6", 0, 0, *small, len(layout.comment)) + layout.comment
    return bytes(out) + layout.after


def with_data(records: list[Record], at: int, data: bytes) -> list[Record]:
    """The records, that at `at` with other content."""
    return [*records[:at], replace(records[at], data=data), *records[at + 1 :]]


def _packed(record: Record) -> bytes:
    if record.method != DEFLATED:
        return record.data
    return deflated(record.data)


def deflated(data: bytes) -> bytes:
    """A raw deflate stream."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _facts(record: Record) -> dict[str, int]:
    truth = {"crc": zlib.crc32(record.data), "packed": len(_packed(record)), "size": len(record.data)}
    return {**truth, "method": record.method, "flags": 0x0808, "extra": 0, "attributes": 0, **record.lies}


def _local(record: Record, at: int, torch: bool) -> bytes:
    facts, name = _facts(record), record.name if record.local_name is None else record.local_name
    padding = b""
    if torch:
        gap = -(at + 30 + len(name) + 4) % _ALIGNMENT
        padding = b"FB" + struct.pack("<H", gap) + b"Z" * gap
    flags = facts["flags"] if torch else facts["flags"] & ~8
    sums = (0, 0, 0) if torch else (facts["crc"] % 2**32, facts["packed"] % 2**32, facts["size"] % 2**32)
    head = struct.pack("<4s5H3L2H", b"PK\3\4", 0, flags % 2**16, facts["method"], 0, 0, *sums, len(name), len(padding))
    tail = b""
    if torch:
        tail = struct.pack("<4s3L", b"PK\7\x08", *(facts[key] % 2**32 for key in ("crc", "packed", "size")))
    return head + name + padding + _packed(record) + tail


def _directory(records: list[Record], places: list[int]) -> bytes:
    out = bytearray()
    for record, place in zip(records, places, strict=False):
        if not record.listed:
            continue
        facts = _facts(record)
        sums = tuple(facts[key] % 2**32 for key in ("crc", "packed", "size"))
        extra = b""
        if facts["extra"]:  # a zip64 extra field with sizes of its own
            extra = struct.pack("<2H3Q", 1, 24, *(facts["extra"] % 2**64,) * 2, place)
            sums = (sums[0], 2**32 - 1, 2**32 - 1)
        start = facts.get("start", place) % 2**32
        numbers = (0, 0, facts["flags"] % 2**16, facts["method"], 0, 0, *sums, len(record.name), len(extra))
        out += struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers, 0, 0, 0, facts["attributes"] % 2**32, start)
        out += record.name + extra
    return bytes(out)


# What can be wrong with a record or with the archive.


def _at(records: list[Record], dice: Dice, **changes: Any) -> list[Record]:
    at = dice.randrange(len(records))
    return [*records[:at], replace(records[at], **changes), *records[at + 1 :]]


def _drop(records: list[Record], dice: Dice) -> list[Record]:
    at = dice.randrange(len(records))
    return records[:at] + records[at + 1 :]


def _duplicate(records: list[Record], dice: Dice) -> list[Record]:
    twin = dice.one_of(records)
    data = dice.one_of((twin.data, dice.one_of(records).data, hostile.payload(dice), b""))
    at = dice.randrange(len(records) + 1)
    name = twin.name if dice.chance(60) else twin.name.swapcase()
    return [*records[:at], Record(name, data), *records[at:]]


def _rename(records: list[Record], dice: Dice) -> list[Record]:
    at = dice.randrange(len(records))
    old = records[at].name
    folder, _, last = old.rpartition(b"/")
    new = dice.one_of((
        hostile.member(dice), folder + b"/" + hostile.member(dice)[:2000], old.upper(), old.title(), old + b"/",
        old + b"\0x", b"/" + old, b"./" + old, old.replace(b"/", b"\\"), old.replace(b"/", b"//"), last, b"x/" + old,
        old + b" ", dice.one_of(records).name,
    ))  # fmt: skip
    return [*records[:at], replace(records[at], name=new), *records[at + 1 :]]


def _swap(records: list[Record], dice: Dice) -> list[Record]:
    first, second = dice.randrange(len(records)), dice.randrange(len(records))
    changed = list(records)
    changed[first] = replace(records[first], data=records[second].data)
    changed[second] = replace(records[second], data=records[first].data)
    return changed


def _resize(records: list[Record], dice: Dice) -> list[Record]:
    at = dice.randrange(len(records))
    data = records[at].data
    data = dice.one_of((data[: len(data) // 2], b"", data + bytes(64), data * 2, data[1:], data + dice.randbytes(3)))
    return with_data(records, at, data)


def _lie(records: list[Record], dice: Dice) -> list[Record]:
    key = dice.one_of(("crc", "packed", "size", "start", "extra", "attributes"))
    value = 0xA1FF0000 if key == "attributes" else hostile.integer(dice)
    return _at(records, dice, lies={key: value})


def _flags(records: list[Record], dice: Dice) -> list[Record]:
    return _at(records, dice, lies={"flags": dice.one_of((0, 1, 8, 0x41, 0x809, 0x2000, 0x20, 0xFFFF, 0x800))})


def _method(records: list[Record], dice: Dice) -> list[Record]:
    if dice.chance(50):
        return _at(records, dice, method=DEFLATED)
    return _at(records, dice, lies={"method": dice.one_of((1, 6, 8, 9, 12, 14, 93, 95, 99))})


def _all_deflated(records: list[Record], dice: Dice) -> list[Record]:
    return [replace(record, method=DEFLATED) for record in records]


def _bomb(records: list[Record], dice: Dice) -> list[Record]:
    at = dice.randrange(len(records))
    name = records[at].name if dice.chance(50) else dice.one_of(records).name.rpartition(b"/")[0] + b"/unused"
    packed, size, crc = zeros(dice.one_of((2**26, 2**28, 2**32)))
    bomb = Record(name, packed, lies={"method": DEFLATED, "packed": len(packed), "size": size, "crc": crc})
    return [*records[:at], bomb, *records[at + 1 if dice.chance(50) else at :]]


@cache
def zeros(size: int) -> tuple[bytes, int, int]:
    """(deflate stream, size, CRC) of that many zeros: about a thousandth of it."""
    packer, crc, block = zlib.compressobj(9, zlib.DEFLATED, -15), 0, bytes(2**20)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # a stream of its own, but for the end
    for _ in range(size // len(block)):
        crc = zlib.crc32(block, crc)
    return packed * (size // len(block)) + b"\x03\x00", size, crc


def _hide(records: list[Record], dice: Dice) -> list[Record]:
    return _at(records, dice, listed=False)


def _overlap(records: list[Record], dice: Dice) -> list[Record]:
    return _at(records, dice, shares=True)


def _two_names(records: list[Record], dice: Dice) -> list[Record]:
    return _at(records, dice, local_name=dice.one_of((dice.one_of(records).name, hostile.member(dice), b"")))


def _shuffle(records: list[Record], dice: Dice) -> list[Record]:
    return dice.sample(records, len(records))


def _symlink(records: list[Record], dice: Dice) -> list[Record]:
    at = dice.randrange(len(records))
    link = replace(records[at], data=hostile.SECRET_FILE.encode(), lies={"attributes": 0xA1FF0000, "flags": 0x0800})
    return [*records[:at], link, *records[at + 1 :]]


RECORD_WAYS: dict[Callable[[list[Record], Dice], list[Record]], int] = {
    _drop: 4, _duplicate: 5, _rename: 8, _swap: 3, _resize: 4, _lie: 5, _flags: 2, _method: 3, _all_deflated: 1,
    _bomb: 1, _hide: 1, _overlap: 2, _two_names: 2, _shuffle: 2, _symlink: 1,
}  # fmt: skip


def mutate(records: list[Record], dice: Dice) -> tuple[list[Record], str]:
    """The records with one of them (or their order) changed, and how, in words."""
    if not records:
        return [Record(b"a", b"b")], "record added to none"
    way = dice.weighted(RECORD_WAYS)
    return way(records, dice), f"record {way.__name__.strip('_')}"


def lying_layout(records: list[Record], dice: Dice, torch: bool = True) -> tuple[Layout, str]:
    """A layout with one thing wrong with the archive as a whole."""
    way = dice.one_of(("lie", "before", "after", "comment", "second", "plain", "inner"))
    if way == "lie":
        key = dice.one_of(("count", "size", "start", "wide_count", "wide_size", "wide_start", "wide_end"))
        number = hostile.integer(dice) if dice.chance(70) else dice.randrange(-70, 70)
        return Layout(torch, lies={key: number}), f"archive's {key} is {number}"
    if way == "second":
        return Layout(torch, second=_other_directory(records, dice)), "second directory"
    honest = write(records[: len(records) // 2], Layout(torch))
    extra = dice.one_of((b"\0", b"PK\5\6" + bytes(18), honest, dice.randbytes(100), bytes(70000)))
    layouts = {"before": Layout(torch, before=extra), "after": Layout(torch, after=extra)}
    layouts |= {"comment": Layout(torch, comment=extra[:65535]), "plain": Layout(not torch)}
    return layouts.get(way, Layout(torch, before=honest)), f"archive {way}"


def _other_directory(records: list[Record], dice: Dice) -> tuple[Record, ...]:
    """Another reading of the same names: a record replaced, or a pickle that runs code added."""
    if dice.chance(50) and records:
        folder = records[0].name.partition(b"/")[0]
        added = dice.one_of((b"/data.pkl", b"/data/sample_inputs/model.pt", b"/data/weights/weight_0"))
        kept = tuple(record for record in records if record.name != folder + added)
        return (*kept, Record(folder + added, hostile.payload(dice)))
    return tuple(mutate(list(records), dice)[0])
