"""What a shared library says about itself: a reader of 64-bit little-endian ELF, as far as the doctor asks.

Symbols exported, libraries needed, symbol versions needed (GLIBC_2.34, GLIBCXX_3.4.29), and the CUDA code embedded.
No tool is needed: readelf and cuobjdump are not on every machine that runs a network.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from normexport.io.opening import opened

_SHARED = 3  # e_type ET_DYN
MACHINES = {0x3E: "x86_64", 0xB7: "aarch64"}
_NEEDED, _SONAME = 1, 14  # entries of .dynamic
_SYMBOL = struct.Struct("<IBBHQQ")
_FATBIN_MAGIC = struct.pack("<I", 0xBA55ED50)
_PTX, _CUBIN = 1, 2  # kinds of entries in a fat binary
_FAT_HEADER = 32  # bytes of it that are read; CUDA's own has 64

#: Tables may point anywhere, and to one place again and again: no more is followed than large libraries have (100,000
#: symbols of libtorch), and no more text is read than four times the file.
_MOST_ENTRIES = 1_000_000
_LONGEST_NAME = 1 << 16


class NotElf(ValueError):
    """The file is no 64-bit little-endian ELF shared library, or is cut off."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


@dataclass(frozen=True)
class CudaCode:
    """One piece of embedded CUDA code."""

    architecture: int  # 90 of sm_90
    ptx: bool  # to be compiled by the driver for that architecture or a later one


class Elf:
    """A shared library on disk.

    Attributes:
        machine: "x86_64", "aarch64" or "machine 243".
        exported: names of the functions and objects that others may link to.
        needed: names of the libraries it needs, as the linker recorded them.
        soname: its own name, if it was given one.
        versions_needed: symbol versions that its needed libraries must have: "GLIBC_2.34".
        cuda: the CUDA code embedded, by architecture.

    Raises:
        NotElf: the file is something else, is cut off or damaged.
        UsageError: it can't be read.
    """

    def __init__(self, path: Path) -> None:
        with opened(path) as file:
            self._data = file.read()
        self._entries, self._text_left = _MOST_ENTRIES, 4 * len(self._data)
        try:
            self._read_header()
            self.exported = frozenset(self._exported_symbols())
            self.needed = tuple(self._dynamic(_NEEDED))
            self.soname = next(self._dynamic(_SONAME), None)
            self.versions_needed = frozenset(self._versions())
            self.cuda = tuple(sorted(set(self._cuda()), key=lambda code: (code.architecture, code.ptx)))
        except NotElf:
            raise
        except (struct.error, IndexError, ValueError, OverflowError) as error:  # the last: an offset beyond 2**63
            raise NotElf("is cut off or damaged") from error

    def _read_header(self) -> None:
        data = self._data
        if data[:4] != b"\x7fELF":
            raise NotElf("is no ELF file")
        if data[4:6] != b"\x02\x01":
            raise NotElf("is not 64-bit little-endian")
        kind, machine = struct.unpack_from("<HH", data, 16)
        if kind != _SHARED:
            raise NotElf("is no shared library")
        self.machine = MACHINES.get(machine, f"machine {machine}")
        (table,) = struct.unpack_from("<Q", data, 40)
        size, count, names = struct.unpack_from("<HHH", data, 58)
        if table + size * count > len(data):
            raise NotElf("is cut off")
        sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", data, table + i * size)) for i in range(count)]
        self._sections = {self._text(sections[names], section.name): section for section in sections}
        self._by_index = sections

    def _text(self, strings: _Section, at: int) -> str:
        start = strings.offset + at
        end = self._data.index(b"\0", start, start + _LONGEST_NAME)
        self._text_left -= end - start
        self._count()
        return self._data[start:end].decode()

    def _count(self) -> None:
        """Count one more entry of a table, and refuse a file that has more than any library."""
        self._entries -= 1
        if self._entries < 0 or self._text_left < 0:
            raise NotElf("has more entries than a library can have: it is damaged")

    def _exported_symbols(self) -> Iterator[str]:
        section = self._sections.get(".dynsym")
        if section is None:
            return
        strings = self._by_index[section.link]
        for at in range(section.offset, section.offset + section.size, _SYMBOL.size):
            self._count()
            name, info, other, defined_in, _, _ = _SYMBOL.unpack_from(self._data, at)
            if defined_in and info >> 4 in (1, 2, 10) and other & 3 in (0, 3):  # global, weak, unique; visible
                yield self._text(strings, name)

    def _dynamic(self, wanted: int) -> Iterator[str]:
        section = self._sections.get(".dynamic")
        if section is not None:
            strings = self._by_index[section.link]
            for at in range(section.offset, section.offset + section.size, 16):
                self._count()
                tag, value = struct.unpack_from("<qQ", self._data, at)
                if tag == wanted:
                    yield self._text(strings, value)

    def _versions(self) -> Iterator[str]:
        section = self._sections.get(".gnu.version_r")
        if section is None:
            return
        strings = self._by_index[section.link]
        library = section.offset
        for _ in range(section.info):
            self._count()
            _, count, _, first, to_next_library = struct.unpack_from("<HHIII", self._data, library)
            entry = library + first
            for _ in range(count):
                _, _, _, name, to_next = struct.unpack_from("<IHHII", self._data, entry)
                yield self._text(strings, name)
                if not to_next:
                    break
                entry += to_next
            if not to_next_library:
                return
            library += to_next_library

    def _cuda(self) -> Iterator[CudaCode]:
        section = self._sections.get(".nv_fatbin")
        if section is None:
            return
        at, end = section.offset, section.offset + section.size
        while (at := self._data.find(_FATBIN_MAGIC, at, end)) >= 0:
            self._count()
            _, _, header, size = struct.unpack_from("<IHHQ", self._data, at)
            if at % 8 == section.offset % 8 and header:
                yield from self._fat_entries(at + header, at + header + size)
                at += header + size
            else:
                at += 1

    def _fat_entries(self, at: int, end: int) -> Iterator[CudaCode]:
        """Entries start with kind (2 bytes), 2 bytes, header size (4), payload size (8); architecture at byte 28."""
        while at + _FAT_HEADER <= end:
            self._count()
            kind, _, header, size = struct.unpack_from("<HHIQ", self._data, at)
            (architecture,) = struct.unpack_from("<I", self._data, at + 28)
            if header < _FAT_HEADER:
                return
            if kind in (_PTX, _CUBIN):
                yield CudaCode(architecture, kind == _PTX)
            at += header + size


def newest(versions: frozenset[str], family: str) -> str | None:
    """The highest of "GLIBC_2.17", "GLIBC_2.34", ... as "2.34"; None where there is none of that family."""
    numbers = [
        match.group(1)
        for version in versions
        if (match := re.fullmatch(rf"{family}_([0-9]{{1,9}}(?:\.[0-9]{{1,9}})*)", version))
    ]
    return max(numbers, key=version_key, default=None)


def version_key(version: str) -> tuple[int, ...]:
    """("2.9" before "2.34")."""
    return tuple(int(part) for part in version.split("."))
