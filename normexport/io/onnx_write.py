"""An ONNX model as the bytes of its file, one large weight after the other: none is copied into a protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from normexport.io.onnx_wire import BYTES, GRAPH_OF_MODEL, INITIALIZER_OF_GRAPH, RAW_DATA_OF_TENSOR, fields

#: What is written: bytes, or a tensor whose bytes are.
Piece = bytes | ir.TensorProtocol


def pieces_of(proto: onnx.ModelProto, weights: Mapping[str, ir.TensorProtocol]) -> list[Piece]:
    """What the file of a model consists of, in order; serialised whole, it is the same bytes.

    Args:
        proto: the model; of the initializers that `weights` names it holds name, type and shape alone. They are taken
            out of it.
        weights: of types that numpy has.
    """
    tensors: list[Piece] = []
    for tensor in proto.graph.initializer:
        tensors += _field(INITIALIZER_OF_GRAPH, _tensor(tensor, weights.get(tensor.name)))
    del proto.graph.initializer[:]
    graph = _between(proto.graph.SerializeToString(), INITIALIZER_OF_GRAPH, tensors)
    proto.ClearField("graph")
    return _between(proto.SerializeToString(), GRAPH_OF_MODEL, _field(GRAPH_OF_MODEL, graph))


def size_of(pieces: list[Piece]) -> int:
    """Bytes of all pieces."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in pieces)


def write_pieces(pieces: list[Piece], file: BinaryIO) -> None:
    """Write them; of the tensors one is in memory at a time."""
    for piece in pieces:
        file.write(piece if isinstance(piece, bytes) else bytes_of(piece))


def bytes_of(tensor: ir.TensorProtocol) -> Any:
    """The numbers of a tensor as ONNX stores them, little-endian, without a copy where they lie so."""
    array = np.ascontiguousarray(tensor.numpy())
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array.reshape(-1).view(np.uint8).data  # tofile() says of a full disk how much it wrote, not why


def _tensor(proto: onnx.TensorProto, weight: ir.TensorProtocol | None) -> list[Piece]:
    if weight is None:
        return [proto.SerializeToString()]
    proto.ClearField("data_location")
    proto.ClearField("external_data")
    return _between(proto.SerializeToString(), RAW_DATA_OF_TENSOR, [_head(RAW_DATA_OF_TENSOR, weight.nbytes), weight])


def _between(message: bytes, number: int, inner: list[Piece]) -> list[Piece]:
    """A serialised message with `inner` where a field of that number stands among the others."""
    at = next((field.begin for field in fields(message, 0, len(message)) if field.number > number), len(message))
    return [message[:at], *inner, message[at:]]


def _field(number: int, content: list[Piece]) -> list[Piece]:
    return [_head(number, size_of(content)), *content]


def _head(number: int, size: int) -> bytes:
    """What stands before the bytes of a field: its number, and how many there are."""
    return bytes((*_varint(number << 3 | BYTES), *_varint(size)))


def _varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
