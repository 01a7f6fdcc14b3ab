"""A zip archive with exactly one reading: whatever another reader could see in it differently is refused.

Two central directories, members that overlap, names that differ only in case, sizes that contradict each other: each
lets one reader check a file and another open a different one. PyTorch, numpy and `zipfile` write none of it.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (names of sections in the comments).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO

from normexport.io.limits import memory_allowance

_END = struct.Struct("<4s4H2LH")  # 4.3.16 end of central directory record
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14 its zip64 form
_LOCATOR64 = struct.Struct("<4sLQL")  # 4.3.15
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_KNOWN_FLAGS = _SIZES_FOLLOW | _UTF8 | 0x6  # 0x6: how hard the writer tried to compress
_DESCRIPTOR = 24  # 4.3.9, the longest form: signature, checksum, two sizes of 8 bytes
_BLOCK = 1 << 20


class BadArchive(ValueError):
    """The archive is damaged, or can be read in more than one way; the message says where."""


@dataclass(frozen=True)
class Member:
    """A file in the archive: its size unpacked and packed, its checksum, and where its packed bytes begin."""

    name: str
    size: int
    packed: int
    crc: int
    compressed: bool
    begin: int


class ZipArchive:
    """An open archive; `members` by name, in the order of the directory. Use as a context manager.

    Args:
        source: a path, or an open binary file that can seek (an archive inside an archive).
        most: bytes that compressed members may unpack to in all; None: `memory_allowance` of the archive's size.
        paths: whether names must be plain relative paths. An .npz names arrays as its writer likes: "input:0".

    Raises:
        BadArchive: no zip file, damaged, or of more than one reading.
        OSError: it can't be read.
    """

    def __init__(self, source: Path | BinaryIO, most: int | None = None, *, paths: bool = True) -> None:
        self._owned = isinstance(source, Path)
        self._file: BinaryIO = source.open("rb") if isinstance(source, Path) else source
        try:
            self.size = self._file.seek(0, os.SEEK_END)
            self.members: Mapping[str, Member] = MappingProxyType(_members(self._file, self.size))
            for name in self.members if paths else ():
                _require_path(name)
            most = memory_allowance(self.size) if most is None else most
            if sum(member.size for member in self.members.values() if member.compressed) > most:
                raise BadArchive(f"it unpacks to more than {most >> 20} MiB")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._owned:
            self._file.close()

    def read(self, name: str, most: int | None = None) -> bytes:
        """All of a member, its checksum compared; `most` is the largest size that its kind can have.

        Raises:
            KeyError: there is no such member.
            BadArchive: larger than `most`, damaged, or its checksum is another.
        """
        member = self.members[name]
        if most is not None and member.size > most:
            raise BadArchive(f"{name} has {member.size} bytes, more than its kind can have")
        return b"".join(self.blocks(name))

    def read_into(self, name: str, buffer: memoryview) -> None:
        """Fill `buffer`, which has the member's size, with it; its checksum is compared."""
        member = self.members[name]
        if not member.compressed:
            self._read_stored(member, buffer)
            return
        filled = 0
        for block in self.blocks(name):
            buffer[filled : filled + len(block)] = block
            filled += len(block)

    def _read_stored(self, member: Member, buffer: memoryview) -> None:
        """Read in place, without a copy: a fifth of the time of opening a checkpoint."""
        crc = 0
        self._file.seek(member.begin)
        for at in range(0, member.size, _BLOCK):
            block = buffer[at : at + _BLOCK]
            if self._file.readinto(block) != len(block):  # type: ignore[attr-defined]  # BinaryIO lacks it
                raise BadArchive(f"{member.name} is cut short")
            crc = zlib.crc32(block, crc)
        if crc != member.crc and not self._without_checksums:
            raise BadArchive(f"the checksum of {member.name} does not match")

    def blocks(self, name: str) -> Iterator[bytes]:
        """The member unpacked, about a megabyte at a time; a wrong size or checksum is told at the end."""
        member = self.members[name]
        crc = size = 0
        for block in self._unpack(member):
            crc, size = zlib.crc32(block, crc), size + len(block)
            if size > member.size:
                break
            yield block
        if size != member.size:
            raise BadArchive(f"{name} does not unpack to the {member.size} bytes it should")
        if crc != member.crc and not self._without_checksums:
            raise BadArchive(f"the checksum of {name} does not match")

    @property
    def _without_checksums(self) -> bool:
        """PyTorch can leave checksums out (`torch.serialization.set_crc32_options(False)`): then all are zero."""
        return all(member.crc == 0 for member in self.members.values())

    def _unpack(self, member: Member) -> Iterator[bytes]:
        unpack = zlib.decompressobj(-zlib.MAX_WBITS) if member.compressed else None
        for at in range(member.begin, member.begin + member.packed, _BLOCK):
            self._file.seek(at)
            packed = self._file.read(min(_BLOCK, member.begin + member.packed - at))
            if unpack is None:
                yield packed
                continue
            full = False  # zlib may hold more to give once all packed bytes are taken in
            while packed or full:  # a block of zeros unpacks to a thousand times its size: in steps
                try:
                    block = unpack.decompress(packed, _BLOCK)
                except zlib.error as error:
                    raise BadArchive(f"{member.name} is damaged") from error
                packed, full = unpack.unconsumed_tail, len(block) == _BLOCK
                yield block
        if unpack is not None and not unpack.eof:
            raise BadArchive(f"{member.name} is cut short")


def _members(file: BinaryIO, size: int) -> dict[str, Member]:
    begin, end, count = _directory(file, size)
    file.seek(begin)
    content = file.read(end - begin)
    if len(content) < _CENTRAL.size * count:
        raise BadArchive("its directory is cut short")
    found: dict[str, Member] = {}
    folded: dict[str, str] = {}
    places: list[tuple[int, int, str]] = []
    at = 0
    for _ in range(count):
        member, header, at = _entry(content, at)
        if other := folded.get(member.name.casefold()):
            raise BadArchive(f"it holds both {other} and {member.name}")
        folded[member.name.casefold()] = member.name
        found[member.name] = member = _locate(file, member, header, begin)
        places.append((header, member.begin + member.packed, member.name))
    if at != len(content):
        raise BadArchive("its directory holds more than its members")
    _require_apart(places, begin)
    return found


def _require_apart(places: list[tuple[int, int, str]], directory: int) -> None:
    """Members follow one another; nothing but a descriptor of sizes lies between them, and nothing before them."""
    last, before = 0, "its start"
    for start, stop, name in sorted(places):
        if start < last or start > last + (_DESCRIPTOR if last else 0):
            raise BadArchive(f"{name} does not follow {before}")
        last, before = stop, name
    if not last <= directory <= last + _DESCRIPTOR:
        raise BadArchive(f"its directory does not follow {before}")


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the one central directory begins and ends, and how many members it has."""
    if size < _END.size:
        raise BadArchive("it is cut short")
    file.seek(size - _END.size)
    magic, disk, first_disk, here, count, length, begin, comment = _END.unpack(file.read(_END.size))
    if magic != b"PK\x05\x06" or comment:
        raise BadArchive("it does not end in a directory (cut short, or with something behind it)")
    end = size - _END.size
    if end >= _LOCATOR64.size:
        file.seek(end - _LOCATOR64.size)
        locator = _LOCATOR64.unpack(file.read(_LOCATOR64.size))
        if locator[0] == b"PK\x06\x07":
            small = disk, first_disk, here, count, length, begin
            disk, first_disk, here, count, length, begin, end = _directory64(
                file, end - _LOCATOR64.size, locator, small
            )
    if disk or first_disk or here != count:
        raise BadArchive("it is one part of several")
    if begin + length != end:
        raise BadArchive("its directory is not where it should be")
    return begin, end, count


def _directory64(
    file: BinaryIO, locator_at: int, locator: tuple[bytes, int, int, int], small: tuple[int, ...]
) -> tuple[int, ...]:
    """The zip64 record's numbers, which the small record must repeat or leave open, and where it begins."""
    _, disk, at, disks = locator
    if disk or disks != 1 or at < 0 or at + _END64.size != locator_at:
        raise BadArchive("its zip64 directory is not where it should be")
    file.seek(at)
    magic, length, _, _, *numbers = _END64.unpack(file.read(_END64.size))
    if magic != b"PK\x06\x06" or length != _END64.size - 12:
        raise BadArchive("its zip64 directory is damaged")
    for told, number, bits in zip(small, numbers, (16, 16, 16, 16, 32, 32), strict=True):
        if told not in (number, (1 << bits) - 1):
            raise BadArchive("it has two directories that contradict each other")
    return (*numbers, at)


def _entry(content: bytes, at: int) -> tuple[Member, int, int]:
    """A member as the directory has it, where its own header begins, and where the next entry begins."""
    try:
        magic, _, _, flags, method, _, _, crc, packed, size, named, extra, comment, disk, _, _, header = (
            _CENTRAL.unpack_from(content, at)
        )
    except struct.error as error:
        raise BadArchive("its directory is cut short") from error
    start = at + _CENTRAL.size
    raw, more, following = content[start : start + named], start + named, start + named + extra + comment
    if magic != b"PK\x01\x02" or following > len(content):
        raise BadArchive("its directory is damaged")
    name = _name(raw)
    size, packed, header = _sizes64(content[more : more + extra], name, size, packed, header)
    if flags & _ENCRYPTED:
        raise BadArchive(f"{name} is encrypted")
    if flags & ~_KNOWN_FLAGS or method not in (_STORED, _DEFLATED) or disk:
        raise BadArchive(f"{name} is stored in an unusual way")
    if method == _STORED and size != packed:
        raise BadArchive(f"{name} has two sizes, {size} and {packed}")
    return Member(name, size, packed, crc, method == _DEFLATED, 0), header, following


def _name(raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise BadArchive(f"a name in it is no UTF-8 ({raw[:40]!r})") from error
    if not name.isprintable():
        raise BadArchive(f"a name in it can't be printed ({name[:40]!r})")
    return name


def _require_path(name: str) -> None:
    parts = name.removesuffix("/").split("/")
    if "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise BadArchive(f"a name in it is no plain relative path ({name[:40]!r})")


def _sizes64(extra: bytes, name: str, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """4.5.3: a number that has no room in its field stands in the extra field with id 1, in this order."""
    numbers = [size, packed, header]
    at, seen = 0, False
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if len(field) < length or (kind == 1 and seen):
            raise BadArchive(f"the entry of {name} is damaged")
        if kind == 1:
            seen = True
            for index in range(3):
                if numbers[index] == 0xFFFFFFFF:
                    if len(field) < 8:
                        raise BadArchive(f"the entry of {name} is damaged")
                    numbers[index], field = struct.unpack("<Q", field[:8])[0], field[8:]
        at += 4 + length
    return numbers[0], numbers[1], numbers[2]


def _locate(file: BinaryIO, member: Member, header: int, directory: int) -> Member:
    """The member with its place, once its own header says the same as the directory."""
    if header + _LOCAL.size > directory:
        raise BadArchive(f"{member.name} lies outside the archive")
    file.seek(header)
    content = file.read(_LOCAL.size)
    magic, _, flags, method, _, _, crc, packed, size, named, extra = _LOCAL.unpack(content)
    name = file.read(named)
    size, packed, _ = _sizes64(file.read(extra), member.name, size, packed, 0)
    begin = header + _LOCAL.size + named + extra
    if (
        magic != b"PK\x03\x04"
        or name != member.name.encode()
        or method != (_DEFLATED if member.compressed else _STORED)
    ):
        raise BadArchive(f"the header of {member.name} says something else than the directory")
    same = (size, packed, crc) == (member.size, member.packed, member.crc)
    if not same and not (flags & _SIZES_FOLLOW and (size, packed, crc) in ((0, 0, 0), (member.size, member.packed, 0))):
        raise BadArchive(f"the header of {member.name} says something else than the directory")
    if begin + member.packed > directory:
        raise BadArchive(f"{member.name} ends outside the archive")
    return Member(member.name, member.size, member.packed, member.crc, member.compressed, begin)
