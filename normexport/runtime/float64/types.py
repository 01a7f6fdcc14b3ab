"""How values are held: every floating type of a graph in float64, everything else in its own type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOATS

_WIDE: dict[ir.DataType, Any] = {
    **{each.ir: np.dtype(np.float64) for each in FLOATS.values()},
    ir.DataType.COMPLEX64: np.dtype(np.complex128),
    ir.DataType.STRING: np.dtype(object),
}
_NARROW = ("longdouble", *(name for name in FLOATS if name != "float64"))


def held_as(kind: ir.DataType | int) -> np.dtype[Any]:
    """The numpy type in which values of an ONNX type are held.

    Types of 8 bits and less (float8, int4, ...) are the results of quantisation: they stay what they are.
    """
    kind = ir.DataType(kind)
    return _WIDE[kind] if kind in _WIDE else kind.numpy()


def held(array: Any) -> Any:
    """An array as it is held (see `held_as`); itself where it is held so already."""
    array = np.asarray(array)
    if array.dtype.name in _NARROW:
        return array.astype(np.float64, copy=False)
    if array.dtype == np.complex64:
        return array.astype(np.complex128)
    if array.dtype.kind in "SU":
        return array.astype(object)
    return array


def array_of(tensor: ir.TensorProtocol) -> Any:
    """The values of a stored tensor, as they are held."""
    array = tensor.numpy()
    if tensor.dtype == ir.DataType.STRING:
        texts = [text.decode() if isinstance(text, bytes) else text for text in array.ravel().tolist()]
        return np.array(texts, dtype=object).reshape(array.shape)
    return held(array)


def round_to(value: Any, kind: str | None) -> Any:
    """A float64 array rounded once to a narrower type ("float16"), held in float64; anything else as it is."""
    if kind is None or not isinstance(value, np.ndarray) or value.dtype != np.float64:
        return value
    return value.astype(FLOATS[kind].numpy).astype(np.float64)
