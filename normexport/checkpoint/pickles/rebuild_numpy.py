"""numpy arrays and scalars from their records: plain numbers and text, never Python objects."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexport.checkpoint.pickles.inert import BadPickle, Call, Name, text_of, whole
from normexport.checkpoint.pickles.rebuilder import Rebuilder

#: bool, whole, floating and complex numbers; bytes and text of a fixed length.
_TYPE = re.compile(r"[?bhilqpBHILQPefdgFDG]|b1|i[1248]|u[1248]|f(?:2|4|8|16)|c(?:8|16|32)|[SU]\d{1,6}")
_MOST_AXES = 32


def dtype_of(rebuilder: Rebuilder, call: Call) -> np.dtype[Any]:
    """`numpy.dtype("f8", False, True)` with its state (3, "<", None, None, None, -1, -1, 0)."""
    args = call.args
    name = text_of(args[0]) if args else None
    if name is None or len(args) > 3 or not all(isinstance(each, (bool, int)) for each in args[1:]):
        raise BadPickle("a numpy type in it is given in an unusual way")
    if not _TYPE.fullmatch(name):
        raise BadPickle(f"a numpy array in it holds {'Python objects' if name.startswith('O') else 'no plain numbers'}")
    if call.items or call.pairs or len(call.states) > 1:
        raise BadPickle("a numpy type in it is given in an unusual way")
    try:
        dtype = np.dtype(name)
    except TypeError:
        raise BadPickle(f"this machine has no numpy type {name}") from None
    return dtype.newbyteorder(_byte_order(call.states[0], dtype)) if call.states else dtype


def _byte_order(state: Any, dtype: np.dtype[Any]) -> Any:
    if not isinstance(state, tuple) or len(state) != 8 or state[2:5] != (None, None, None):
        raise BadPickle("a numpy type in it has parts, metadata or odd flags")
    order, sizes = text_of(state[1]), state[5:7]
    if order not in ("<", ">", "|", "=") or not all(whole(each) for each in (state[0], *sizes, state[7])):
        raise BadPickle("a numpy type in it has parts, metadata or odd flags")
    if sizes[0] not in (-1, dtype.itemsize) or sizes[1] not in (-1, dtype.alignment) or state[7] not in (0, 8):
        raise BadPickle("a numpy type in it has parts, metadata or odd flags")
    return order


def scalar(rebuilder: Rebuilder, call: Call) -> Any:
    """`numpy.core.multiarray.scalar(dtype, bytes)`."""
    if len(call.args) != 2 or call.states or call.items or call.pairs:
        raise BadPickle("a numpy number in it is given in an unusual way")
    return _numbers(rebuilder.value(call.args[0]), rebuilder.value(call.args[1]), ())[()]


def array(rebuilder: Rebuilder, call: Call) -> NDArray[Any]:
    """`_reconstruct(ndarray, (0,), b"b")` with the state (1, shape, dtype, is_fortran, bytes)."""
    kind = call.args[0] if call.args else None
    if (
        not isinstance(kind, Name)
        or kind.dotted != "numpy.ndarray"
        or call.items
        or call.pairs
        or len(call.states) != 1
    ):
        raise BadPickle("a numpy array in it is given in an unusual way")
    state = call.states[0]
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[3], (bool, int)):
        raise BadPickle("a numpy array in it is given in an unusual way")
    dtype, data = rebuilder.value(state[2]), rebuilder.value(state[4])
    return _numbers(dtype, data, _shape(rebuilder.value(state[1])), "F" if state[3] else "C")


def from_buffer(rebuilder: Rebuilder, call: Call) -> NDArray[Any]:
    """`_frombuffer(bytes, dtype, shape, order)`, of pickle protocol 5."""
    if len(call.args) != 4 or call.states or call.items or call.pairs or text_of(call.args[3]) not in ("C", "F"):
        raise BadPickle("a numpy array in it is given in an unusual way")
    data, dtype, shape = (rebuilder.value(each) for each in call.args[:3])
    return _numbers(dtype, data, _shape(shape), text_of(call.args[3]) or "C")


def _shape(said: Any) -> tuple[int, ...]:
    if not isinstance(said, tuple) or len(said) > _MOST_AXES or not all(whole(each) and each >= 0 for each in said):
        raise BadPickle("a numpy array in it has no plain shape")
    return said


def _numbers(dtype: Any, data: Any, shape: tuple[int, ...], order: Any = "C") -> NDArray[Any]:
    """A copy of `data` as an array of its own."""
    if not isinstance(dtype, np.dtype) or not isinstance(data, (bytes, bytearray)):
        raise BadPickle("a numpy array in it has no plain data")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise BadPickle(
            f"a numpy array in it should have {math.prod(shape) * dtype.itemsize} bytes and has {len(data)}"
        )
    if dtype.itemsize == 0:
        raise BadPickle("a numpy array in it has elements of no size")
    values = np.frombuffer(bytearray(data), dtype).reshape(shape, order=order)
    return values.astype(dtype.newbyteorder("="), copy=False)  # as numpy does where the byte order is the other


def _names() -> dict[str, Any]:
    found: dict[str, Any] = {"numpy.dtype": dtype_of}
    for package in ("numpy._core", "numpy.core"):  # numpy 2 and 1
        found[f"{package}.multiarray.scalar"] = scalar
        found[f"{package}.multiarray._reconstruct"] = array
        found[f"{package}.numeric._frombuffer"] = from_buffer
    return found


NUMPY_BUILDERS = _names()
