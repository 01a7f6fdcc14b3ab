"""Tar archives that nobody vouches for, as files in a row: where each lies is read, and nothing is ever unpacked.

A name in an archive is a word for messages, and what its end says: no path is made of it. Archives are not compressed,
so that any of their files can be read without those before it. Headers are read by Python's `tarfile`; those that it
would read as a whole (long names, extended headers) are limited here, before it does.

Formats: POSIX ustar and pax, GNU tar; https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, overload

import numpy as np
import numpy.typing as npt

from normexport.errors import UsageError
from normexport.io.opening import opened
from normexport.text import first_line, printable

MOST_BYTES = 256 << 20  # of a file in an archive, which is read as a whole
_MOST_HEADER = 1 << 16  # bytes of a long name or an extended header; a path of Linux has 4096
_MAGIC_AT, _MAGIC = 257, b"ustar"
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _BadTar(ValueError):
    """The archive is damaged, or holds what none of samples does; the message says why."""


class _Header(tarfile.TarInfo):
    """A header whose size is looked at before anything is read by it."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        header: _Header = super().frombuf(buf, encoding, errors)
        if header.size < 0:
            raise _BadTar("a file of it is of less than no bytes")
        if header.type in _EXTENDED and header.size > _MOST_HEADER:
            raise _BadTar("a header of it is longer than any that tar writes")
        return header


@dataclass(frozen=True)
class Member:
    """A file in an archive: `size` bytes of it, from `offset` on."""

    archive: Path
    name: str
    offset: int
    size: int

    @property
    def suffix(self) -> str:
        """As `Path.suffix`."""
        return PurePosixPath(self.name).suffix

    def __str__(self) -> str:
        return f"{self.archive}: {printable(self.name)}"

    def content(self) -> bytes:
        """All of it.

        Raises:
            UsageError: the archive can't be read, or is shorter now.
        """
        if self.size > MOST_BYTES:
            raise UsageError(str(self), f"is larger than {MOST_BYTES >> 20} MiB", "take it out of the archive")
        with opened(self.archive) as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise UsageError(str(self), "is cut short", "copy the archive again")
        return content


class Members(Sequence[Member]):
    """Files of several archives by number: a few dozen bytes each, so that there may be millions."""

    def __init__(self, archives: Sequence[Path], members: Sequence[Member]) -> None:
        numbers = {archive: number for number, archive in enumerate(archives)}
        self.archives = tuple(archives)
        places = [(numbers[each.archive], each.offset, each.size) for each in members]
        names = [each.name.encode("utf-8", "surrogateescape") for each in members]
        self._places: npt.NDArray[np.int64] = np.array(places, np.int64).reshape(-1, 3)
        self._names = b"".join(names)
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *map(len, names)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> Member: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Member]: ...
    def __getitem__(self, number: int | slice) -> Member | Sequence[Member]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        archive, offset, size = map(int, self._places[number])
        start, end = self._ends[:-1][number], self._ends[1:][number]
        name = self._names[start:end].decode("utf-8", "surrogateescape")
        return Member(self.archives[archive], name, offset, size)


def is_tar(path: Path) -> bool:
    """Whether a file is a tar archive, by its content.

    Raises:
        UsageError: it can't be read.
    """
    with opened(path) as file:
        begin = file.read(tarfile.BLOCKSIZE)
    return begin[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def members_in(archive: Path) -> Iterator[Member]:
    """The files of an archive, in their order; folders in it are passed over.

    Raises:
        UsageError: it is packed, damaged or cut short; it holds links, devices or files with holes.
    """
    with opened(archive) as file:
        whole = file.seek(0, os.SEEK_END)
        file.seek(0)
        begin = file.read(8)
        file.seek(0)
        for magic, words in _PACKED.items():
            if begin.startswith(magic):
                cause = f"is packed by {words}, so that no sample of it can be read by itself"
                raise UsageError(str(archive), cause, "unpack it: archives of images gain nothing by it")
        try:
            yield from _members(archive, file, whole)
        # A chain of extended headers is as deep for tarfile as it is long.
        except (_BadTar, tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
            cause = f"is not a tar archive of samples ({first_line(error)})"
            raise UsageError(str(archive), cause, "write it with tar, or take it out") from error


def _members(archive: Path, file: BinaryIO, whole: int) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as headers:
        behind = 0
        while (header := headers.next()) is not None:
            headers.members = []  # type: ignore[attr-defined]  # it would keep all of them
            name = printable(header.name, 100)
            if header.size < 0 or headers.offset <= behind:
                raise _BadTar(f"{name} in it ends before it begins")
            behind = headers.offset
            if header.isdir():
                continue
            if not header.isreg() or header.issparse():
                raise _BadTar(f"{name} in it is a link, a device or has holes")
            if header.offset_data + header.size > whole:
                raise _BadTar(f"{name} in it is cut short")
            yield Member(archive, header.name, header.offset_data, header.size)
        # tarfile takes a damaged header for the end; the end is a block of zeros.
        file.seek(headers.offset)
        end = file.read(tarfile.BLOCKSIZE)
        if len(end) < tarfile.BLOCKSIZE or any(end):
            raise _BadTar("it is damaged or cut short, and has no end")
