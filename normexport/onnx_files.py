"""ONNX files as models to work on: opened only when they are whole, written whole or not at all.

`split_weights` parts a model into a small proto and its large arrays; saving more than 2 GB and handing a
model to ONNX Runtime without serialising its weights are both that one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from normexport.errors import FoldError, UsageError
from normexport.files import real_target, replacing_all
from normexport.onnx_protos import damaged, read_onnx
from normexport.weight_files import WRITTEN, free_name, remove_unread, written_with

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
    return model_from_proto(read_onnx(path), Path(path))


def model_from_proto(proto: onnx.ModelProto, path: Path) -> ir.Model:
    """The model in what `read_onnx` read from `path`; it keeps nothing of the proto.

    Raises:
        FoldError: its graph is not well-formed.
    """
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # onnx_ir raises many kinds; each means that the graph is not well-formed
        raise damaged(path, f"its graph can't be read ({_first_line(error)})") from error
    ir.external_data.set_base_dir(model.graph, path.parent)
    # A proto hands out a copy of its bytes at every look, and one tensor keeps the whole proto alive.
    _replace_tensors(model, _own)
    return model


def save_onnx(
    model: ir.Model | onnx.ModelProto,
    path: str | Path,
    *,
    limit: int = PROTOBUF_LIMIT,
    home: Path | None = None,
    texts: Mapping[Path, str] = MappingProxyType({}),
) -> tuple[Path, ...]:
    """Write one `.onnx` file, whole or not at all; weights go to `path`.data only where protobuf's 2 GB force it.

    Args:
        home: the folder that the files will lie in, where that is not `path`'s.
        texts: files that appear together with the model.

    Returns:
        the files written, the model first. See `normexport.weight_files` for how it goes together with its data.

    Raises:
        UsageError: the place can't be written.
        FoldError: what has to be in the `.onnx` file itself is more than protobuf's limit.
    """
    path = Path(path)
    if isinstance(model, onnx.ModelProto):
        model = ir.from_proto(model)
    target = real_target(path)
    before = written_with(target)
    data: tuple[Path, ...] = ()
    arrays: dict[str, Array] = {}
    if weight_bytes(model) < limit * 0.9:  # the rest is for names, shapes and nodes
        proto = ir.to_proto(with_weights_inside(model))
    else:
        data = (_data_beside(path, target, home),)
        proto, arrays = split_weights(model, data[0].name)
        proto.metadata_props.add(key=WRITTEN, value=data[0].name)
    with replacing_all(*data, *texts, path) as (*others, temporary):
        for file in others[: len(data)]:
            _write_arrays(file, arrays)
        for file, text in zip(others[len(data) :], texts.values(), strict=True):
            file.write_text(text)
        del arrays
        temporary.write_bytes(_serialized(proto, path))
    remove_unread(before)
    return path, *data, *texts


def _data_beside(path: Path, target: Path, home: Path | None) -> Path:
    if target.parent != path.parent.resolve():
        cause = "is a symbolic link to another folder, and weights over 2 GB need a file beside the model"
        raise UsageError(str(path), cause, f"name the file itself, {target}")
    return path.with_name(free_name(target, target.parent, home or target.parent))


def _serialized(proto: onnx.ModelProto, path: Path) -> bytes:
    try:
        content: bytes = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        cause = "has more than 2 GB in constants and types that have to be in the file itself"
        raise FoldError(str(path), cause, "export it with its weights as initializers") from error
    return content


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
    copy.metadata_props.pop(WRITTEN, None)
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


def _write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    with path.open("wb") as file:
        for array in arrays.values():
            file.seek(_aligned(file.tell()))
            file.write(array.reshape(-1).view(np.uint8).data)  # tofile() says of a full disk how much it wrote, not why


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _is_native(dtype: ir.DataType) -> bool:
    """Whether numpy itself has this type; ml_dtypes' additions register as void kind."""
    return dtype != ir.DataType.STRING and dtype.numpy().kind in "fiub" and dtype.numpy().isbuiltin == 1


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
