"""The raw data of tensors in a file: each storage is read once, by us, into memory of its own size."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import torch

from normexport.checkpoint.pickles.inert import BadPickle, Name, Persistent, text_of, whole
from normexport.io.zip_archive import ZipArchive

#: Types by the class of the storage, as `torch.save` names it; UntypedStorage has bytes, and its tensors name a type.
_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "QInt8Storage": torch.qint8,
    "QUInt8Storage": torch.quint8,
    "QInt32Storage": torch.qint32,
    "QUInt4x2Storage": torch.quint4x2,
    "QUInt2x4Storage": torch.quint2x4,
}
UNTYPED = "torch.storage.UntypedStorage"
STORAGE_TYPES = {f"{package}.{name}": dtype for package in ("torch", "torch.cuda") for name, dtype in _TYPES.items()}


class TensorData(Protocol):
    """Where the bytes of storages are."""

    def size_of(self, key: str) -> int:
        """Bytes of the storage `key`. Raises BadPickle where there is none."""

    def read_into(self, key: str, buffer: memoryview) -> None:
        """Fill `buffer`, which has that size."""


@dataclass(frozen=True)
class Storage:
    """A part of a storage: `memory` (bytes, uint8), which tensors of `dtype` (None: they say) share.

    `begin` and `count` are its elements within `memory`, bytes where it has no type.
    """

    memory: torch.Tensor
    dtype: torch.dtype | None
    begin: int
    count: int


class Storages:
    """Storages by what the pickle says of them, `("storage", type, key, location, count)`.

    Args:
        data: where their bytes are.
        swapped: whether numbers are stored in the other byte order than this machine's.
    """

    def __init__(self, data: TensorData, swapped: bool = False) -> None:
        self._data, self._swapped = data, swapped
        self._known: dict[str, Storage] = {}

    def get(self, reference: Persistent) -> Storage:
        """The storage, read from the file at its first mention.

        Raises:
            BadPickle: the reference is malformed, the file has no such data, or not as much.
        """
        declared = declaration(reference)
        dtype, key, count = declared.dtype, declared.key, declared.count
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Storage(self._read_numbers(key, dtype, count), dtype, 0, count)
        if (found.dtype, found.count) != (dtype, count):
            raise BadPickle(f"storage {key[:40]} has two types or sizes")
        if declared.view is None:
            return found
        begin, length = declared.view
        if begin + length > count:
            raise BadPickle(f"a view of storage {key[:40]} reaches beyond it")
        return Storage(found.memory, dtype, begin, length)

    def _read_numbers(self, key: str, dtype: torch.dtype | None, count: int) -> torch.Tensor:
        size = count * (1 if dtype is None else dtype.itemsize)
        there = self._data.size_of(key)
        if size != there:
            raise BadPickle(f"storage {key[:40]} should have {size} bytes and has {there}")
        memory = torch.empty(size, dtype=torch.uint8)
        if size:
            self._data.read_into(key, memoryview(memory.numpy()))  # type: ignore[arg-type]  # an array is a buffer
        if self._swapped and dtype is not None:
            _swap_bytes(memory, dtype)
        return memory


@dataclass(frozen=True)
class Declaration:
    """What a pickle says of a storage; `view` is (first element, elements), of files before PyTorch 0.4."""

    dtype: torch.dtype | None
    key: str
    count: int
    view: tuple[int, int] | None = None


def declaration(reference: Persistent) -> Declaration:
    """Read a reference to a storage. Raises BadPickle: it is none, or malformed."""
    said = reference.key
    if not isinstance(said, tuple) or len(said) not in (5, 6) or text_of(said[0]) != "storage":
        raise BadPickle("it refers to something outside that is no tensor's data")
    kind, key, count = said[1], text_of(said[2]), said[4]
    if not isinstance(kind, Name) or (kind.dotted not in STORAGE_TYPES and kind.dotted != UNTYPED):
        raise BadPickle("it holds data of an unknown type")
    if key is None or not whole(count) or count < 0:
        raise BadPickle("it refers to a tensor's data in an unusual way")
    view = said[5] if len(said) == 6 else None
    return Declaration(STORAGE_TYPES.get(kind.dotted), key, count, None if view is None else _view(view))


def _view(said: Any) -> tuple[int, int]:
    if not isinstance(said, tuple) or len(said) != 3 or not all(whole(each) and each >= 0 for each in said[1:]):
        raise BadPickle("it refers to a part of a tensor's data in an unusual way")
    return said[1], said[2]


def _swap_bytes(memory: torch.Tensor, dtype: torch.dtype) -> None:
    size = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    if size > 1:
        memory.numpy().view(f"u{size}").byteswap(inplace=True)


class ZippedData:
    """Storages as members `<folder>/data/<key>` of a zip archive."""

    def __init__(self, archive: ZipArchive, folder: str) -> None:
        self._archive, self._folder = archive, folder

    def size_of(self, key: str) -> int:
        member = self._archive.members.get(self._name(key))
        if member is None:
            raise BadPickle(f"the data of storage {key[:40]} is missing")
        return member.size

    def read_into(self, key: str, buffer: memoryview) -> None:
        self._archive.read_into(self._name(key), buffer)

    def _name(self, key: str) -> str:
        return f"{self._folder}/data/{key}"


class AppendedData:
    """Storages one after the other at the end of a file, as `torch.save` wrote before PyTorch 1.6.

    Each is its number of elements (8 bytes) and the elements.

    Raises:
        BadPickle: the file ends before them, or their sizes differ from what the pickle says.
    """

    def __init__(self, file: BinaryIO, size: int, at: int, keys: list[Any], declared: dict[str, Declaration]) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        for raw in keys:
            key = text_of(raw)
            if key is None or key not in declared or key in self._places:
                raise BadPickle("its list of storages differs from what it uses")
            file.seek(at)
            count, at = int.from_bytes(file.read(8), "little"), at + 8
            if count != declared[key].count:
                raise BadPickle(f"storage {key[:40]} has another size than the file says")
            length = count * (declared[key].dtype or torch.uint8).itemsize
            if at + length > size:
                raise BadPickle("it is cut short")
            self._places[key] = at, length
            at += length

    def size_of(self, key: str) -> int:
        if key not in self._places:
            raise BadPickle(f"the data of storage {key[:40]} is missing")
        return self._places[key][1]

    def read_into(self, key: str, buffer: memoryview) -> None:
        self._file.seek(self._places[key][0])
        if self._file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]  # BinaryIO lacks it
            raise BadPickle("it is cut short")


def is_swapped(order: bytes) -> bool:
    """Whether a file's record `byteorder` differs from this machine's. Raises BadPickle: it is neither of the two."""
    if order not in (b"little", b"big"):
        raise BadPickle("its byte order is neither little nor big")
    return order.decode() != sys.byteorder
