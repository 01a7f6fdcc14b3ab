"""Arrays in .npy and .npz files, read as plain numbers: no pickles, no evaluated headers, no more than is there.

A header is matched against its grammar, and the bytes that follow must be as many as it says. What is read at once is
limited by the size of the file (`most_at_once`); what is read in slices holds one slice of each array.

Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from normexport.errors import UsageError
from normexport.io.opening import File, opened
from normexport.io.zip_archive import BadArchive, ZipArchive

Array = npt.NDArray[np.generic]
Dtype = np.dtype[np.generic]

_MAGIC = b"\x93NUMPY"
_ZIP = b"PK\x03\x04", b"PK\x05\x06"  # how an .npz begins; the file's name says nothing
_LONGEST_HEADER = 10_000  # numpy's own limit
_MOST_AXES = 64  # numpy's own limit
_BLOCK = 1 << 20
_STREAMED = 1 << 62  # what an archive may unpack to where it is never unpacked at once

#: Plain numbers, and text and raw bytes: these are named in messages and never become an input.
_DESCR = re.compile(r"[<>|](?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SUV]\d{1,9})")
_ENTRY = re.compile(
    r"""\s*(?P<quote>['"])(?P<key>descr|fortran_order|shape)(?P=quote)\s*:\s*"""
    r"""(?P<value>'[^'\\]*'|"[^"\\]*"|True|False|\((?:\s*\d{1,19}L?\s*,)*(?:\s*\d{1,19}L?)?\s*\))\s*(?:,|$)\s*"""
)


class BadArrays(ValueError):
    """The file holds no plain arrays, or not those that it announces; the message says why."""


class TooMuch(ValueError):
    """Arrays that take more memory at once than a file of this size may ask for."""


class _Room:
    """The bytes that arrays of one file may take in memory, all together."""

    def __init__(self, most: int) -> None:
        self.most = self._left = most

    def check(self, size: int) -> None:
        """Refuse an array of `size` bytes that is more than the file allows."""
        if size > self.most:
            raise TooMuch(f"its arrays take {size >> 20} MiB at once, a file of its size may take {self.most >> 20}")

    def claim(self, size: int) -> None:
        """As `check`, together with what was claimed before."""
        self.check(size + self.most - self._left)
        self._left -= size


class StoredArray:
    """An array in a file: its shape and type, and its numbers, from the first to the last.

    Raises:
        BadArrays: of every method: the numbers are damaged, or fewer than announced.
        TooMuch: of every method: they are too many to be held at once.
    """

    def __init__(self, size: int, blocks: Iterator[bytes], room: _Room) -> None:
        self._blocks, self._held, self._room = blocks, memoryview(b""), room
        self.shape, self.by_columns, self.dtype = self._header(size)
        self._rows_taken = 0
        self._columns: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    def take(self, count: int) -> Array:
        """The next `count` rows (of axis 0). An array in column order is read whole by the first call."""
        if self.by_columns and self._columns is None:
            self._columns = self.read()
        first, self._rows_taken = self._rows_taken, self._rows_taken + count
        if self._columns is not None:
            return self._columns[first : first + count]
        shape = (count, *self.shape[1:])
        self._room.check(math.prod(shape) * self.dtype.itemsize)
        array = self._fill(np.empty(math.prod(shape), self.dtype.newbyteorder("="))).reshape(shape)
        if self._rows_taken == self.shape[0]:
            self._finish()
        return array

    def skip(self, count: int) -> None:
        """Go past the next `count` rows, whatever is in them."""
        if self.by_columns:
            self.take(count)
            return
        self._rows_taken += count
        left = count * math.prod(self.shape[1:]) * self.dtype.itemsize
        while left:
            left -= len(self._bytes(min(left, _BLOCK)))
        if self._rows_taken == self.shape[0]:
            self._finish()

    def read(self, dtype: Dtype | None = None) -> Array:
        """The whole array, as `dtype` where one is given: then each block is converted as it comes."""
        kept = self.dtype.newbyteorder("=") if dtype is None else dtype
        self._room.claim(math.prod(self.shape) * kept.itemsize)
        array = self._fill(np.empty(math.prod(self.shape), kept))
        self._finish()
        return array.reshape(self.shape, order="F" if self.by_columns else "C")

    def _fill(self, array: Array) -> Array:
        """`array`, one axis, filled with the numbers that come next."""
        at, size = 0, self.dtype.itemsize
        while at < len(array):
            count = min(max(1, _BLOCK // size), len(array) - at)
            numbers = np.frombuffer(self._bytes(count * size), self.dtype)
            if self.dtype.kind == "b" and numbers.view(np.uint8).max() > 1:
                raise BadArrays("it holds booleans that are neither true nor false")
            array[at : at + count] = numbers
            at += count
        return array

    def _bytes(self, count: int) -> bytearray:
        content, at = bytearray(count), 0
        while at < count:
            if not self._held:
                block: bytes = next(self._blocks, b"")
                self._held = memoryview(block)
            if not self._held:
                raise BadArrays("it holds fewer numbers than it announces")
            part = self._held[: count - at]
            content[at : at + len(part)] = part
            at, self._held = at + len(part), self._held[len(part) :]
        return content

    def _finish(self) -> None:
        """Read to the end: there the checksum is compared."""
        if len(self._held) or next(self._blocks, b""):
            raise BadArrays("it holds more numbers than it announces")

    def _header(self, size: int) -> tuple[tuple[int, ...], bool, Dtype]:
        begin = self._bytes(min(size, 10))
        if len(begin) < 10 or begin[:6] != _MAGIC or begin[6] not in (1, 2, 3):
            raise BadArrays("it is cut short, or of another format")
        if begin[6] == 1:
            (length,) = struct.unpack("<H", begin[8:])
            start = 10
        else:
            (length,) = struct.unpack("<I", begin[8:] + self._bytes(2))
            start = 12
        if length > min(_LONGEST_HEADER, size - start):
            raise BadArrays("a header of it is longer than any that numpy writes")
        shape, by_columns, dtype = _parse_header(self._bytes(length))
        announced = math.prod(shape) * dtype.itemsize
        if announced != size - start - length:
            raise BadArrays(f"it announces {announced} bytes of numbers and holds {size - start - length}")
        return shape, by_columns and len(shape) > 1, dtype


def _parse_header(header: bytearray) -> tuple[tuple[int, ...], bool, Dtype]:
    """(shape, whether it is stored by columns, type) of a header: {'descr': '<f4', 'fortran_order': False, ...}."""
    text = header.decode("latin-1").strip()
    if not (text.startswith("{") and text.endswith("}")):
        raise BadArrays("a header of it is damaged")
    found: dict[str, str] = {}
    at, text = 0, text[1:-1].strip()
    while at < len(text):
        entry = _ENTRY.match(text, at)
        if entry is None or entry["key"] in found:
            raise BadArrays("a header of it is no description of an array of plain numbers")
        found[entry["key"]] = entry["value"]
        at = entry.end()
    descr, order, shape = (found.get(key, "") for key in ("descr", "fortran_order", "shape"))
    if not _DESCR.fullmatch(descr[1:-1]) or order not in ("True", "False") or not shape.startswith("("):
        raise BadArrays("a header of it is no description of an array of plain numbers")
    sizes = tuple(int(size) for size in re.findall(r"\d+", shape))
    if len(sizes) > _MOST_AXES or math.prod(max(size, 1) for size in sizes) >= 1 << 60 or (sizes and "," not in shape):
        raise BadArrays("it announces a shape that no array has")
    try:
        return sizes, order == "True", np.dtype(descr[1:-1])
    except (TypeError, ValueError) as error:  # longer floating-point numbers are not known on every machine
        raise BadArrays(f"its type {descr} is not known here") from error


def write_arrays(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write an .npz of arrays under any names: `np.savez` takes `file` and `allow_pickle` for arguments of its own."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)


def most_at_once(size: int) -> int:
    """Bytes that arrays of a file of `size` bytes may take in memory: 4 * size + 1 GiB.

    Four: pixels of one byte are read as float32. What unpacks to more can still be read in slices.
    """
    return 4 * size + (1 << 30)


@contextlib.contextmanager
def opened_arrays(path: File) -> Iterator[Mapping[str, StoredArray]]:
    """The arrays of a file by name, read as they are asked for; that of an .npy file is called "".

    Raises:
        UsageError: no such file, or damaged, or no plain arrays; also while one of them is read inside the block.
    """
    try:
        with opened(path) as file, contextlib.ExitStack() as stack:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            begin = file.read(4)
            file.seek(0)
            room = _Room(most_at_once(size))
            if begin in _ZIP:
                yield _Members(stack.enter_context(ZipArchive(file, most=_STREAMED, paths=False)), room)
            else:
                yield {"": StoredArray(size, iter(lambda: file.read(_BLOCK), b""), room)}
    except TooMuch as error:
        raise UsageError(str(path), str(error), "save it with numpy.savez, or fewer samples in it") from error
    except (BadArrays, BadArchive) as error:
        cause = f"is not a numpy file of plain arrays ({error})"
        raise UsageError(str(path), cause, "write it with numpy.savez") from error


class _Members(Mapping[str, StoredArray]):
    """The arrays of an archive by name. A header is read when its array is asked for: others may be anything."""

    def __init__(self, archive: ZipArchive, room: _Room) -> None:
        self._archive, self._room = archive, room
        self._names = [name.removesuffix(".npy") for name in archive.members if name.endswith(".npy")]

    def __getitem__(self, name: str) -> StoredArray:
        member = self._archive.members[f"{name}.npy"]
        return StoredArray(member.size, self._archive.blocks(member.name), self._room)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
