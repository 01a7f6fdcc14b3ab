"""How much memory an ONNX file takes once it is parsed, told from its bytes before it is.

A message of two bytes becomes an object of 200, and a packed number of one byte becomes eight: a file of 100 MB that
holds nothing else would take 10 GB. What a model is made of are tensors, whose bytes are copied as they are, and a
structure around them that is small. So only a large structure has to be counted.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx

from normexport.io.limits import memory_allowance
from normexport.io.onnx_wire import BYTES, Content, fields

Message = Any  # protobuf's descriptors have no types

_SMALL = 8 << 20  # bytes of structure that need no counting: at most 100 times as many in memory
_LOOK_INSIDE = 64 << 10  # bytes; the data of smaller messages may count as structure
_ROOM = 512 << 20  # bytes beyond what a file may unpack to: 2.5 million objects, more than `onnx_graphs` lets through

_OBJECT = 200  # bytes in memory of a field, whatever it holds (measured: 157 for a node, 200 for an attribute)
_NUMBER = 16  # bytes of a number in a list, which grows by doubling
_TEXT = 5  # bytes in memory for a byte of text: itself, and four where one letter of it needs four

#: Fields of a tensor that are as large in memory as in the file: float_data, raw_data, double_data.
_AS_THEY_ARE = (4, 9, 10)


def check_weight(content: Content) -> None:
    """Whether the file can be parsed within the memory that a file of its size may take.

    Raises:
        OverflowError: it can't.
        ValueError: it is no protobuf.
    """
    if _is_large(content):
        _count(content, memory_allowance(len(content)) + _ROOM)


def _is_large(content: Content) -> bool:
    """Whether all but the tensors' data takes more than `_SMALL`."""
    total, pending = 0, [(0, len(content), onnx.ModelProto.DESCRIPTOR)]
    while pending:
        start, end, message = pending.pop()
        for field in fields(content, start, end):
            inner = _messages(message).get(field.number)
            if inner is not None and field.kind == BYTES and field.end - field.start > _LOOK_INSIDE:
                pending.append((field.start, field.end, inner))
            elif not _is_data(message, field.number):
                total += field.end - field.begin
                if total > _SMALL:
                    return True
    return False


def _count(content: Content, most: int) -> None:
    total, pending = 0, [(0, len(content), onnx.ModelProto.DESCRIPTOR)]
    while pending:
        start, end, message = pending.pop()
        for field in fields(content, start, end):
            inner = _messages(message).get(field.number)
            if inner is not None and field.kind == BYTES:
                pending.append((field.start, field.end, inner))
            if field.kind == BYTES and inner is None and not _is_data(message, field.number):
                total += _of_bytes(content[field.start : field.end], field.number in _packed_fields(message))
            total += _OBJECT if field.kind == BYTES else _NUMBER
            if total > most:
                raise OverflowError("its many small parts take too much memory")


def _of_bytes(value: bytes, packed: bool) -> int:
    """Text, or whole numbers, each of which ends in a byte without its highest bit."""
    return _NUMBER * int(np.count_nonzero(np.frombuffer(value, np.int8) >= 0)) if packed else _TEXT * len(value)


def _is_data(message: Message, number: int) -> bool:
    return message is onnx.TensorProto.DESCRIPTOR and number in _AS_THEY_ARE


@cache
def _messages(message: Message) -> dict[int, Message]:
    """The fields of a message that are messages themselves."""
    return {field.number: field.message_type for field in message.fields if field.message_type is not None}


@cache
def _packed_fields(message: Message) -> frozenset[int]:
    """The fields of a message that are lists of numbers."""
    lists = (field for field in message.fields if field.is_repeated)
    return frozenset(
        field.number for field in lists if field.cpp_type not in (field.CPPTYPE_STRING, field.CPPTYPE_MESSAGE)
    )
