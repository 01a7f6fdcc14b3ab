"""ONNX files: opened only when they are whole and stay in their folder, written whole or not at all.

`open_onnx` refuses, before a byte of it is read, external data that leaves the model's folder (absolute
paths, "..", symbolic links): a model from elsewhere must not be able to pull /etc/passwd into its weights.
`split_weights` parts a model into a small proto and its large arrays; saving more than 2 GB and handing a
model to ONNX Runtime without serialising its weights are both that one operation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from normexport.errors import FoldError, UsageError
from normexport.files import replacing, write_bytes

Array: TypeAlias = npt.NDArray[np.generic]

PROTOBUF_LIMIT = 2**31 - 1  # bytes of one serialised message; protobuf's own limit
SMALL = 1024  # bytes; below this a tensor stays in the proto (shape constants, scalars): a page is not saved
_ALIGNMENT = 4096  # bytes; external data starts on a page, so that readers can map it (ONNX ExternalData.md)


def open_onnx(path: str | Path) -> ir.Model:
    """The model in an ONNX file; external data stays on disk until a tensor is used.

    Raises:
        UsageError: there is no such file, or it can't be read.
        FoldError: not ONNX, cut short, or its external data is missing, too short or outside the folder.
    """
    path = Path(path)
    proto = _parse(path)
    for tensor in _external_tensors(proto):
        _check_external(path, tensor)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # onnx_ir raises many kinds; each means that the graph is not well-formed
        raise _damaged(path, f"its graph can't be read ({_first_line(error)})") from error
    ir.external_data.set_base_dir(model.graph, path.parent)
    # A proto hands out a copy of its bytes at every look, and one tensor keeps the whole proto alive.
    _replace_tensors(model, _own)
    return model


def save_onnx(model: ir.Model | onnx.ModelProto, path: str | Path, *, limit: int = PROTOBUF_LIMIT) -> None:
    """Write one `.onnx` file, whole or not at all; weights go to `path`.data only where protobuf's 2 GB force it.

    Raises:
        UsageError: the place can't be written.
    """
    path = Path(path)
    if isinstance(model, onnx.ModelProto):
        model = ir.from_proto(model)
    if weight_bytes(model) < limit * 0.9:  # the rest is for names, shapes and nodes
        write_bytes(path, ir.to_proto(with_weights_inside(model)).SerializeToString())
        return
    data = path.with_name(path.name + ".data")
    proto, arrays = split_weights(model, data.name)
    with replacing(data) as temporary:
        _write_arrays(temporary, arrays)
    write_bytes(path, proto.SerializeToString())


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of the main graph."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


def split_weights(model: ir.Model, location: str) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model as a proto whose large initializers only point at `location`, and those initializers' arrays.

    Arrays share memory with the model's tensors. Types numpy lacks (bfloat16, float8, 4 bit) stay in the proto.
    Offsets are page-aligned, in the order of the mapping.
    """
    copy = with_weights_inside(model, at_least=SMALL)
    arrays: dict[str, Array] = {}
    offset = 0
    for name, value in copy.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < SMALL or not _is_native(tensor.dtype):
            continue
        arrays[name] = np.ascontiguousarray(tensor.numpy())
        value.const_value = ir.ExternalTensor(
            location, offset, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
        )
        offset = _aligned(offset + tensor.nbytes)
    return ir.to_proto(copy), arrays


def with_weights_inside(model: ir.Model, *, at_least: int | None = None) -> ir.Model:
    """A shallow copy of `model` that refers to no other file: nodes and values are copied, tensors shared.

    With `at_least`, initializers of the main graph, native to numpy and of that many bytes or more, stay outside:
    the caller takes them as arrays.
    """
    copy = model.clone()
    main = {id(value.const_value) for value in copy.graph.initializers.values()}

    def inside(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        large = at_least is not None and tensor.nbytes >= at_least
        return tensor if large and id(tensor) in main and _is_native(tensor.dtype) else _as_array(tensor)

    _replace_tensors(copy, inside)
    return copy


def _replace_tensors(model: ir.Model, change: Callable[[ir.TensorProtocol], ir.TensorProtocol]) -> None:
    """Put `change(tensor)` in place of every initializer and tensor attribute, subgraphs and functions included."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = change(value.const_value)
    nodes = [node for graph in model.graphs() for node in graph]
    nodes += [node for function in model.functions.values() for node in function]
    for node in nodes:
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                changed = change(attribute.as_tensor())
                if changed is not attribute.as_tensor():
                    node.attributes[name] = ir.AttrTensor(name, changed)


def _as_array(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    array = tensor.numpy()
    return ir.Tensor(array, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _own(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return _as_array(tensor) if isinstance(tensor, ir.TensorProtoTensor) else tensor


def _parse(path: Path) -> onnx.ModelProto:
    if path.exists() and not path.is_file():
        raise UsageError(str(path), "is not a regular file", "check the path")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(str(path), f"can't be read ({error.strerror})", "check the path") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        if path.suffix.lower() in (".pt", ".pth", ".pt2", ".ckpt"):
            raise FoldError(str(path), "not an ONNX file", "checkpoints go to normexport convert") from error
        raise _damaged(path, "not an ONNX file, or cut short") from error
    if not proto.HasField("graph") or not proto.ir_version:
        raise _damaged(path, "not an ONNX file (it holds no graph)")
    if not proto.opset_import:  # serialised after the graph: a file cut exactly there still parses
        raise _damaged(path, "cut short (it names no operator set)")
    return proto


def _external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor, in any graph or function, whose data lies in another file."""
    graphs, nodes = [proto.graph], [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        tensors: list[onnx.TensorProto] = []
        if graphs:
            graph = graphs.pop()
            tensors += graph.initializer
            for sparse in graph.sparse_initializer:
                tensors += [sparse.values, sparse.indices]
            nodes += graph.node
        for node in nodes:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    tensors += [sparse.values, sparse.indices]
                graphs += [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs
        nodes = []
        yield from (t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL)


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
        raise _damaged(model, f"tensor {tensor.name} has a malformed offset or length") from error
    if offset < 0 or length < 0 or offset + length > target.stat().st_size:
        raise _damaged(model, f"tensor {tensor.name} ends beyond the end of {location}")


def _write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    try:
        with path.open("wb") as file:
            for array in arrays.values():
                file.seek(_aligned(file.tell()))
                array.tofile(file)
    except OSError as error:
        raise UsageError(str(path), f"can't be written ({error.strerror})", "free some space") from error


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _is_native(dtype: ir.DataType) -> bool:
    """Whether numpy itself has this type; ml_dtypes' additions register as void kind."""
    return dtype != ir.DataType.STRING and dtype.numpy().kind in "fiub" and dtype.numpy().isbuiltin == 1


def _outside(where: str, location: str) -> FoldError:
    cause = f"its external data {location} points outside the model's folder and was not read"
    return FoldError(where, cause, "copy model and data into one folder, if you trust them")


def _damaged(path: Path, cause: str) -> FoldError:
    return FoldError(str(path), cause, "export or download it again")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
