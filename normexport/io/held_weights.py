"""Large weights of an ONNX file that stay in the file: read when they are used, and as often as they are.

A model whose weights are all in memory, as protobuf and then as arrays, takes a multiple of its file. Folding needs one
weight at a time. The file is opened once, so that a path that changes its meaning changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import onnx
import onnx.helper

from normexport.io.held_file import HeldFile, Stretch

if TYPE_CHECKING:
    import onnx_ir as ir

#: Bytes from which on a weight stays in its file; below, one read for all is quicker.
HELD_FROM = 16 << 10

#: Where the raw data of an initializer stands in its file, first byte and length; None: it was read.
Place: TypeAlias = tuple[int, int] | None


def may_stay(kind: int, size: int) -> bool:
    """Whether a weight of this ONNX type and of `size` bytes stays in its file: those that numpy has the type of."""
    return size >= HELD_FROM and kind in _NATIVE


def hold_weights(model: ir.Model, file: HeldFile, weights: Iterable[tuple[onnx.TensorProto, Place]]) -> None:
    """Give the initializers of a model whose data were not read a tensor that reads them.

    Args:
        weights: the initializers of its file, and where the data of each stand.
    """
    for proto, place in weights:
        if place is not None:
            model.graph.initializers[proto.name].const_value = _held(proto, file, *place)


def _held(proto: onnx.TensorProto, file: HeldFile, start: int, size: int) -> ir.LazyTensor:
    import onnx_ir as ir  # not at the top: checking a file needs none of it

    kind, shape, name = ir.DataType(proto.data_type), tuple(proto.dims), proto.name

    def read() -> ir.TensorProtocol:
        array = Stretch(file, start, size).array(kind.numpy().newbyteorder("<"))
        return ir.Tensor(array.reshape(shape), name=name)

    return ir.LazyTensor(
        read,
        kind,
        ir.Shape(shape),
        cache=False,
        name=name,
        doc_string=proto.doc_string or None,
        metadata_props={entry.key: entry.value for entry in proto.metadata_props},
    )


def is_numpys(kind: int) -> bool:
    """Whether numpy itself has this ONNX type; ml_dtypes' additions register as void kind."""
    if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return False
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return dtype.kind in "fiub" and dtype.isbuiltin == 1


_NATIVE = frozenset(kind for kind in onnx.TensorProto.DataType.values() if is_numpys(kind))
