"""Whether a tensor of an ONNX file holds the numbers that its type and its dimensions say."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

import onnx

from normexport.errors import FoldError
from normexport.io.external_data import ExternalFiles, quote
from normexport.io.held_file import Stretch
from normexport.io.limits import memory_allowance
from normexport.io.onnx_walk import tensors_of

AGAIN = "export or download it again"

_T = onnx.TensorProto
_MOST_AXES = 64  # numpy's own limit
_NUMBER = re.compile(r"[0-9]{1,18}")

#: Bits of one number of every type but STRING.
_BITS: dict[int, int] = {
    **dict.fromkeys((_T.COMPLEX128,), 128),
    **dict.fromkeys((_T.DOUBLE, _T.INT64, _T.UINT64, _T.COMPLEX64), 64),
    **dict.fromkeys((_T.FLOAT, _T.INT32, _T.UINT32), 32),
    **dict.fromkeys((_T.FLOAT16, _T.BFLOAT16, _T.INT16, _T.UINT16), 16),
    **{
        number: int(bits[0])
        for name, number in _T.DataType.items()
        if (bits := re.findall(r"^(?:FLOAT|INT|UINT)([2468])(?:E|$)", name))
    },
    _T.BOOL: 8,
}

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
#: Where values stand that are not raw; those of all other types in int32_data.
_FIELD: dict[int, str] = {
    _T.FLOAT: "float_data",
    _T.COMPLEX64: "float_data",
    _T.DOUBLE: "double_data",
    _T.COMPLEX128: "double_data",
    _T.STRING: "string_data",
    _T.INT64: "int64_data",
    _T.UINT32: "uint64_data",
    _T.UINT64: "uint64_data",
}


def known_type(number: int) -> bool:
    """Whether tensors can be of this type."""
    return number in _BITS or number == _T.STRING


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's numbers by type and dimensions; of a string, those of a pointer."""
    return -(-_count(tensor) * _BITS.get(tensor.data_type, 64) // 8)


def check_tensors(
    model: onnx.ModelProto, place: str, files: ExternalFiles, left_out: Sequence[int | None] = ()
) -> None:
    """Check every tensor of a model: none may be a way to other files, whether anything reads it or not.

    Args:
        place: what begins the message of an error.
        left_out: for every initializer of the main graph the bytes of raw data that were not read, None where all was.

    Raises:
        FoldError: see `check_tensor`; or many tensors claim the same bytes of a file.
    """
    outside = 0
    missing = itertools.chain(left_out, itertools.repeat(None))
    for (name, tensor), size in zip(tensors_of(model), missing, strict=False):
        check_tensor(tensor, f"{place}: tensor {quote(name)}", files, size)
        outside += tensor_bytes(tensor) if tensor.data_location == _T.EXTERNAL else 0
    if outside > memory_allowance(files.size):
        cause = f"its tensors claim {outside >> 20} MiB of external data that has {files.size >> 20}"
        raise FoldError(place, cause, AGAIN)


def check_tensor(tensor: onnx.TensorProto, where: str, files: ExternalFiles, left_out: int | None = None) -> None:
    """Whether all the tensor's numbers are there.

    Args:
        where: what begins the message of an error.
        files: where external data may lie.
        left_out: how many bytes of raw data were not read, None where all was.

    Raises:
        FoldError: type, dimensions and data do not fit together, or external data can't be read.
    """
    kind = tensor.data_type
    if not known_type(kind):
        raise FoldError(where, f"is of the unknown type {kind}", AGAIN)
    dims = list(tensor.dims)
    if len(dims) > _MOST_AXES or any(size < 0 for size in dims):
        cause = f"has {len(dims)} dimensions" if len(dims) > _MOST_AXES else f"has a negative dimension, {dims}"
        raise FoldError(where, cause, AGAIN)
    if tensor.HasField("segment"):
        raise FoldError(where, "is one segment of a tensor, which is not read", "export it whole")
    if tensor.data_location == _T.EXTERNAL:
        external(tensor, where, files)
    else:
        _check_inside(tensor, where, left_out)


def external(tensor: onnx.TensorProto, where: str, files: ExternalFiles) -> Stretch:
    """Where the bytes of a tensor lie in another file.

    Raises:
        FoldError: the entries are malformed, the file can't be opened, or it ends before they do.
    """
    if tensor.data_type == _T.STRING or tensor.HasField("raw_data") or any(getattr(tensor, each) for each in _FIELDS):
        raise FoldError(where, "has its data both inside and outside the file, or is text", AGAIN)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise FoldError(where, "its external data is named twice", AGAIN)
    numbers = [entries.get(key, "0") or "0" for key in ("offset", "length")]
    if not all(isinstance(number, str) and _NUMBER.fullmatch(number) for number in numbers):
        raise FoldError(where, "has a malformed offset or length", AGAIN)
    offset, length = map(int, numbers)
    size, location = tensor_bytes(tensor), entries.get("location", "")
    if length not in (0, size):  # 0: not given
        raise FoldError(where, f"is {length} bytes long, its shape {_shape(tensor)} takes {size}", AGAIN)
    file = files.file(location, where)
    if offset + size > file.size:
        raise FoldError(where, f"ends beyond the end of {quote(location)}", AGAIN)
    return Stretch(file, offset, size)


def _check_inside(tensor: onnx.TensorProto, where: str, left_out: int | None) -> None:
    raw = left_out if left_out is not None else len(tensor.raw_data) if tensor.HasField("raw_data") else None
    filled = [name for name in _FIELDS if getattr(tensor, name)]
    field = _FIELD.get(tensor.data_type, "int32_data")
    if raw is not None:
        if filled or tensor.data_type == _T.STRING:
            raise FoldError(where, "holds its values twice, or text as raw data", AGAIN)
        if raw != tensor_bytes(tensor):
            raise FoldError(where, f"holds {raw} bytes, its shape {_shape(tensor)} takes {tensor_bytes(tensor)}", AGAIN)
        return
    if filled not in ([], [field]):
        raise FoldError(where, f"is of type {_T.DataType.Name(tensor.data_type)} and holds {filled[0]}", AGAIN)
    found, needed = len(getattr(tensor, field)), _numbers(tensor)
    if found != needed:
        raise FoldError(where, f"holds {found} numbers, its shape {_shape(tensor)} takes {needed}", AGAIN)


def _numbers(tensor: onnx.TensorProto) -> int:
    """How many entries its field has: complex numbers take two, those of 4 and 2 bits share a byte."""
    count, bits = _count(tensor), _BITS.get(tensor.data_type, 8)
    if tensor.data_type in (_T.COMPLEX64, _T.COMPLEX128):
        return 2 * count
    return -(-count * bits // 8) if bits < 6 else count


def _count(tensor: onnx.TensorProto) -> int:
    return math.prod(int(size) for size in tensor.dims)


def _shape(tensor: onnx.TensorProto) -> str:
    return quote(str(list(tensor.dims)), 60)
