"""An ONNX file as the fields of its protobuf messages: what is looked for is found without the weights being read."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

from normexport.io.opening import open_regular

#: Field numbers of onnx.proto.
GRAPH_OF_MODEL, INITIALIZER_OF_GRAPH, DOMAIN_OF_NODE = 7, 5, 7
TYPE_OF_TENSOR, RAW_DATA_OF_TENSOR, LOCATION_OF_TENSOR = 2, 9, 14

#: Wire types of protobuf, and the bytes of those of one size.
VARINT, BYTES = 0, 2
_FIXED = {1: 8, 5: 4}

_LONGEST_VARINT = 10

#: The bytes of a file.
Content: TypeAlias = mmap.mmap | bytes


class Field(NamedTuple):
    """One field: its number, where it begins, where its value starts, where both end, and its wire type."""

    number: int
    begin: int
    start: int
    end: int
    kind: int


@contextmanager
def map_file(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a file, read as they are looked at.

    Raises:
        OSError: the file can't be read, or is no regular file.
        ValueError: it is empty.
    """
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def fields(content: Content, position: int, end: int) -> Iterator[Field]:
    """The fields of the message that stands between `position` and `end`.

    Raises:
        ValueError: none does.
    """
    while position < end:
        begin = position
        tag, position = _varint(content, begin)
        start, kind = position, tag & 7
        if kind == BYTES:
            size, start = _varint(content, position)
            position = start + size
        elif kind == VARINT:
            _, position = _varint(content, position)
        else:
            position += _FIXED.get(kind, len(content))
        if position > end:
            raise ValueError("not an ONNX file")
        yield Field(tag >> 3, begin, start, position, kind)


def varint(content: Content, field: Field) -> int:
    """The value of a field that is a number."""
    return _varint(content, field.start)[0]


def _varint(content: Content, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the position behind it."""
    value = shift = 0
    while position < len(content) and shift < 7 * _LONGEST_VARINT:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    raise ValueError("not an ONNX file")
