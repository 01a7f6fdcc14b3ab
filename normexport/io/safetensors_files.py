"""Read safetensors files by the letter of their format: a length, a JSON header, and the raw bytes of the tensors.

Eight bytes hold the length of the header, little-endian; the header maps each name to a type, a shape and where its
bytes begin and end behind the header; the tensors follow one another without a gap, up to the end of the file. All of
it is checked before a tensor is read, so that a file has one reading and no tensor is larger than its bytes.

Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from normexport.io.json_files import MOST_BYTES, BadJson, by_name, count, many, parse_json, record, text

_LENGTH = 8
_METADATA = "__metadata__"
#: Bits of an element, by the name of its type.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip
#: Types of packed numbers, which nothing computes in.
_PACKED = ("F4", "F6_E2M3", "F6_E3M2")
_MOST_AXES = 64
_LONGEST_AXIS = 1 << 40


class BadSafetensors(ValueError):
    """The file is damaged, or no safetensors file; the message says where. `remedy`: what to do where it is whole."""

    def __init__(self, words: str, remedy: str = "") -> None:
        super().__init__(words)
        self.remedy = remedy


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the header has it: `dtype` is a name of `BITS`, its bytes are those from `begin` to `end`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What stands before the tensors of a safetensors file.

    Attributes:
        tensors: by name, in the order of the header; places count from the start of the file.
        metadata: text by name, which writers add as they like.
    """

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


def read_header(file: BinaryIO) -> Header:
    """The header of an open file, all of it checked.

    Raises:
        BadSafetensors: the header is cut short, too long, or no JSON; a type is unknown; a tensor's bytes are not as
            many as its shape needs, lie outside the file, overlap those of another, or leave a gap.
        OSError: the file can't be read.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH), "little")
    if size < _LENGTH or length > size - _LENGTH:
        raise BadSafetensors(f"it is cut short: {size} bytes, of which its header alone claims {length}")
    if length > MOST_BYTES:
        raise BadSafetensors(f"its header has {length} bytes, more than the {MOST_BYTES >> 20} MiB that one may have")
    content = file.read(length)
    if not content.startswith(b"{"):
        raise BadSafetensors("its header is no JSON object")
    try:
        return _checked(parse_json(content), _LENGTH + length, size)
    except BadJson as error:
        raise BadSafetensors(f"its header is damaged: {error}") from error


def _checked(document: Any, first: int, size: int) -> Header:
    metadata = by_name(text)(document.get(_METADATA, {}), _METADATA)
    tensors = {text(name, "a name"): _tensor(document[name], _quote(name)) for name in document if name != _METADATA}
    placed = {
        name: StoredTensor(each.dtype, each.shape, first + each.begin, first + each.end)
        for name, each in tensors.items()
    }
    _require_dense(placed, first, size)
    return Header(placed, metadata)


def _tensor(value: Any, where: str) -> StoredTensor:
    fields = record(value, where)
    dtype = fields.get("dtype", text)
    shape, places = fields.get("shape", many(count)), fields.get("data_offsets", many(count))
    fields.no_more()
    if dtype in _PACKED:
        raise BadSafetensors(f"{where} is of type {dtype}, which nothing computes in", "save it as F32 or BF16")
    if dtype not in BITS:
        raise BadJson(f"{where}.dtype is {_quote(dtype)}, which is no type of this format")
    if len(places) != 2 or places[0] > places[1]:
        raise BadJson(f"{where}.data_offsets are not where its bytes begin and end")
    if len(shape) > _MOST_AXES or (0 in shape and max(shape) > _LONGEST_AXIS):  # no bytes bound an empty one
        raise BadJson(f"{where}.shape is impossible")
    needed = math.prod(shape) * BITS[dtype] // 8
    if needed != places[1] - places[0]:
        shown = str(needed) if needed < 1 << 63 else "more than 2^63"
        raise BadJson(f"{where} has {places[1] - places[0]} bytes, and its shape needs {shown}")
    return StoredTensor(dtype, shape, *places)


def _require_dense(tensors: Mapping[str, StoredTensor], first: int, size: int) -> None:
    """Tensors follow one another from the header to the end of the file."""
    last, before = first, "the header"
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.end > size:
            raise BadSafetensors(f"{_quote(name)} ends {tensor.end - size} bytes behind the end of the file")
        if tensor.begin != last:
            word = "overlaps" if tensor.begin < last else "does not follow"
            raise BadSafetensors(f"{_quote(name)} {word} {before}")
        last, before = tensor.end, _quote(name)
    if last != size:
        raise BadSafetensors(f"{size - last} bytes follow its last tensor")


def _quote(name: str) -> str:
    shown = ascii(name)
    return shown if len(shown) <= 80 else f"{shown[:76]}...'"
