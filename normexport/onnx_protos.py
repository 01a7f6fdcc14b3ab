"""ONNX files as plain protobufs: read only when they are whole and stay in their folder.

`read_onnx` refuses, before a byte of it is read, external data that leaves the model's folder (absolute paths, "..",
symbolic links): a model from elsewhere must not be able to pull /etc/passwd into its weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from mmap import mmap
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from normexport.errors import FoldError, UsageError
from normexport.onnx_wire import (
    GRAPH_OF_MODEL,
    INITIALIZER_OF_GRAPH,
    RAW_DATA_OF_TENSOR,
    TYPE_OF_TENSOR,
    Field,
    fields,
    mapped,
    varint,
)

#: Types whose values nothing asks for that only looks at a model.
_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)


def read_onnx(path: str | Path, *, floats: bool = True) -> onnx.ModelProto:
    """The protobuf in an ONNX file; external data stays on disk.

    Args:
        floats: False leaves out the values of the floating-point initializers, and takes 3 ms where the whole of a
            ResNet-50 takes 100 and twice its size in memory.

    Raises:
        UsageError: there is no such file, or it can't be read.
        FoldError: not ONNX, cut short, of unknown types, or its external data is missing, too short or outside the
            folder.
    """
    path = Path(path)
    proto = _parse(path, _whole if floats else _without_floats)
    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor)
    _check_types(path, proto)
    return proto


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of subgraphs and functions included."""
    yield from _with_inner(model.graph.node)
    for function in model.functions:
        yield from _with_inner(function.node)


def damaged(path: Path, cause: str) -> FoldError:
    """What a file that is not whole is refused with."""
    return FoldError(str(path), cause, "export or download it again")


def _with_inner(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _with_inner(graph.node)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield model.graph
    for node in all_nodes(model):
        yield from _subgraphs(node)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor, in any graph or function."""
    sparse: list[onnx.SparseTensorProto] = []
    for graph in _all_graphs(model):
        yield from graph.initializer
        sparse += graph.sparse_initializer
    for node in all_nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += (attribute.sparse_tensor, *attribute.sparse_tensors)
    for each in sparse:
        yield from (each.values, each.indices)


def _parse(path: Path, parser: Callable[[Path], onnx.ModelProto]) -> onnx.ModelProto:
    if path.exists() and not path.is_file():
        raise UsageError(str(path), "is not a regular file", "check the path")
    try:
        proto = parser(path)
    except OSError as error:
        raise UsageError(str(path), f"can't be read ({error.strerror})", "check the path") from error
    except (DecodeError, ValueError) as error:
        if path.suffix.lower() in (".pt", ".pth", ".pt2", ".ckpt"):
            raise FoldError(str(path), "not an ONNX file", "checkpoints go to normexport convert") from error
        raise damaged(path, "not an ONNX file, or cut short") from error
    if not proto.HasField("graph") or not proto.ir_version:
        raise damaged(path, "not an ONNX file (it holds no graph)")
    if not proto.opset_import:  # serialised after the graph: a file cut exactly there still parses
        raise damaged(path, "cut short (it names no operator set)")
    return proto


def _whole(path: Path) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return proto


def _without_floats(path: Path) -> onnx.ModelProto:
    """Put together field by field: that is how protobuf defines the meaning of a message."""
    proto = onnx.ModelProto()
    with mapped(path) as content:
        for field in fields(content, 0, len(content)):
            if field.number != GRAPH_OF_MODEL:
                proto.MergeFromString(content[field.begin : field.end])
                continue
            proto.graph.SetInParent()
            for inner in fields(content, field.start, field.end):
                if inner.number == INITIALIZER_OF_GRAPH:
                    proto.graph.initializer.add().MergeFromString(_tensor_without_floats(content, inner))
                else:
                    proto.graph.MergeFromString(content[inner.begin : inner.end])
    return proto


def _tensor_without_floats(content: mmap, tensor: Field) -> bytes:
    parts = list(fields(content, tensor.start, tensor.end))
    types = [varint(content, part) for part in parts if part.number == TYPE_OF_TENSOR]
    left_out = RAW_DATA_OF_TENSOR if types and types[-1] in _FLOATS else None
    return b"".join(content[part.begin : part.end] for part in parts if part.number != left_out)


def _check_external(model: Path, tensor: onnx.TensorProto) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"{model}: tensor {tensor.name or '(unnamed)'}"
    if not location:
        raise FoldError(where, "its external data names no file", "export the model again")
    posix = location.replace("\\", "/")
    if os.path.isabs(location) or posix.startswith("/") or posix[1:2] == ":" or ".." in posix.split("/"):
        raise _outside(where, location)
    folder = model.parent.resolve()
    target = (model.parent / location).resolve()  # follows symbolic links
    if not target.is_relative_to(folder):
        raise _outside(where, location)
    if not target.is_file():
        raise FoldError(where, f"its external data {location} is missing", f"put it beside {model.name}")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError as error:
        raise damaged(model, f"tensor {tensor.name} has a malformed offset or length") from error
    if offset < 0 or length < 0 or offset + length > target.stat().st_size:
        raise damaged(model, f"tensor {tensor.name} ends beyond the end of {location}")


def _check_types(path: Path, model: onnx.ModelProto) -> None:
    known = set(onnx.TensorProto.DataType.values())
    for graph in _all_graphs(model):
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type.elem_type
            if kind not in known:
                raise damaged(path, f"its graph can't be read ({value.name} is of the unknown type {kind})")


def _outside(where: str, location: str) -> FoldError:
    cause = f"its external data {location} points outside the model's folder and was not read"
    return FoldError(where, cause, "copy model and data into one folder, if you trust them")
