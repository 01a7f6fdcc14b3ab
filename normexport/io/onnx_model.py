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
from google.protobuf.message import EncodeError

from normexport.errors import FoldError, UsageError
from normexport.io.atomic import real_target, replacing_all
from normexport.io.checked_tensor import CheckedTensor, checked_tensor
from normexport.io.external_data import ExternalFiles, quote, weights_folder
from normexport.io.held_weights import hold_weights, is_numpys
from normexport.io.model_tensors import graphs_of_model, replace_tensors, tensors_of_model
from normexport.io.onnx_graphs import UNKNOWN, check_model
from normexport.io.onnx_read import damaged_file_error, read_holding
from normexport.io.onnx_write import Piece, bytes_of, pieces_of, size_of, write_pieces
from normexport.io.weight_files import WRITTEN, free_name, remove_unread, written_with
from normexport.logs import logger
from normexport.text import first_line, innermost

Array: TypeAlias = npt.NDArray[np.generic]

PROTOBUF_LIMIT = 2**31 - 1  # bytes of one serialised message; protobuf's own limit
SMALL = 1024  # bytes; below this a tensor stays in the proto (shape constants, scalars): a page is not saved
_LOG = logger(__name__)
_ALIGNMENT = 4096  # bytes; external data starts on a page, so that readers can map it (ONNX ExternalData.md)


def open_onnx(path: str | Path, weights_under: str | Path | None = None) -> ir.Model:
    """The model in an ONNX file; its large weights, and external data, stay on disk until they are used.

    Args:
        weights_under: a folder in which external data may lie too, also behind symbolic links. Without it, external
            data must lie in the model's own folder.

    Raises:
        UsageError: there is no such file, or it can't be read.
        FoldError: not ONNX, cut short, not well-formed, or its external data is missing, too short or outside the
            folder.
    """
    under = weights_folder(weights_under)
    path = Path(path)
    proto, file, places = read_holding(path, weights_under=under)
    model = model_from_proto(proto, path, under)
    hold_weights(model, file, zip(proto.graph.initializer, places, strict=True))
    _LOG.debug("%s: opened, nodes: %d", path, len(model.graph))
    return model


def opened_model(source: ir.Model | onnx.ModelProto | str | Path, weights_under: str | Path | None = None) -> ir.Model:
    """The model in a file or in memory, checked alike; one in memory is not changed.

    External data of a proto is read only under `weights_under`, for a proto has no folder; that of an `ir.Model`
    under the folder that each tensor names.

    Raises:
        UsageError, FoldError: see `open_onnx`.
    """
    if isinstance(source, (str, Path)):
        return open_onnx(source, weights_under)
    under = weights_folder(weights_under)
    if isinstance(source, onnx.ModelProto):
        place = source.graph.name or "model"
        check_model(source, place, ExternalFiles(None, under))
        return _model(source, place, lambda _: ExternalFiles(None, under))
    if not any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors_of_model(source)):
        return source
    copy = source.clone()
    folders: dict[str, ExternalFiles] = {}

    def files(tensor: ir.ExternalTensor) -> ExternalFiles:
        base = str(tensor.base_dir)
        return folders.setdefault(base, ExternalFiles(Path(base) if base else None, under))

    replace_tensors(copy, lambda tensor: _copy_into_memory(tensor, source.graph.name or "model", files))
    return copy


def model_from_proto(proto: onnx.ModelProto, path: Path, weights_under: Path | None = None) -> ir.Model:
    """The model in what `read_onnx` read from `path`; it keeps nothing of the proto.

    Raises:
        FoldError: its graph is not well-formed.
    """
    files = ExternalFiles(path.parent, weights_under)
    return _model(proto, str(path), lambda _: files)


def _model(proto: onnx.ModelProto, place: str, files: Callable[[ir.ExternalTensor], ExternalFiles]) -> ir.Model:
    try:
        model = ir.from_proto(proto)
        model.clone()  # what is not whole, a branch that hands out a value from outside, shows there first
    except Exception as error:  # onnx_ir raises many kinds; each means that the graph is not well-formed
        raise damaged_file_error(
            Path(place), f"its graph can't be read ({quote(first_line(innermost(error)))})"
        ) from error
    # A proto hands out a copy of its bytes at every look, and one tensor keeps the whole proto alive.
    replace_tensors(model, lambda tensor: _copy_into_memory(tensor, place, files))
    _forget_unknown_sizes(model)
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
        the files written, the model first. See `normexport.io.weight_files` for how it goes together with its data.

    Raises:
        UsageError: the place can't be written.
        FoldError: what has to be in the `.onnx` file itself is more than protobuf's limit.
    """
    path = Path(path)
    model = opened_model(model)
    target = real_target(path)
    before = written_with(target)
    inside = weight_bytes(model) < limit * 0.9  # the rest is for names, shapes and nodes
    data: tuple[Path, ...] = () if inside else (_data_beside(path, target, home),)
    proto, weights = part_weights(model, "" if inside else data[0].name)
    if not inside:
        proto.metadata_props.add(key=WRITTEN, value=data[0].name)
    pieces = _pieces(proto, weights if inside else {}, path)
    with replacing_all(*data, *texts, path) as (*others, temporary):
        for file in others[: len(data)]:
            write_data(file, weights)
        for file, text in zip(others[len(data) :], texts.values(), strict=True):
            file.write_text(text)
        with temporary.open("wb") as stream:
            write_pieces(pieces, stream)
    remove_unread(before)
    return path, *data, *texts


def _data_beside(path: Path, target: Path, home: Path | None) -> Path:
    if target.parent != path.parent.resolve():
        cause = "is a symbolic link to another folder, and weights over 2 GB need a file beside the model"
        raise UsageError(str(path), cause, f"name the file itself, {target}")
    return path.with_name(free_name(target, target.parent, home or target.parent))


def _pieces(proto: onnx.ModelProto, weights: Mapping[str, ir.TensorProtocol], path: Path) -> list[Piece]:
    cause = "has more than 2 GB in constants and types that have to be in the file itself"
    too_large = FoldError(str(path), cause, "export it with its weights as initializers")
    try:
        pieces = pieces_of(proto, weights)
    except (EncodeError, ValueError) as error:
        raise too_large from error
    if size_of(pieces) > PROTOBUF_LIMIT:
        raise too_large
    return pieces


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of the main graph."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


def split_weights(model: ir.Model, location: str) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model as a proto whose large initializers only point at `location`, and those initializers' arrays.

    Arrays share memory with the model's tensors where these are in memory, and are aligned. Types numpy lacks
    (bfloat16, float8, 4 bit) stay in the proto. Offsets are page-aligned, in the order of the mapping.
    """
    proto, weights = part_weights(model, location)
    return proto, {name: np.require(tensor.numpy(), requirements=["C", "A"]) for name, tensor in weights.items()}


def part_weights(model: ir.Model, location: str) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """As `split_weights`, with the tensors themselves in place of arrays: their numbers are not read."""
    copy = with_weights_inside(model, at_least=SMALL)
    weights: dict[str, ir.TensorProtocol] = {}
    offset = 0
    for name, value in copy.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < SMALL or not is_numpys(tensor.dtype):
            continue
        weights[name] = tensor
        value.const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )
        offset = _align(offset + tensor.nbytes)
    return ir.to_proto(copy), weights


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
        return tensor if large and id(tensor) in main and is_numpys(tensor.dtype) else _as_array(tensor)

    replace_tensors(copy, inside)
    copy.metadata_props.pop(WRITTEN, None)
    return copy


def _forget_unknown_sizes(model: ir.Model) -> None:
    """Sizes that old exporters write as -1 are not known."""
    for graph in graphs_of_model(model):
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            if value.shape is not None and UNKNOWN in value.shape.dims:
                value.shape = ir.Shape([None if size == UNKNOWN else size for size in value.shape.dims])


def _as_array(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    array = tensor.numpy()
    return ir.Tensor(array, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _copy_into_memory(
    tensor: ir.TensorProtocol, place: str, files: Callable[[ir.ExternalTensor], ExternalFiles]
) -> ir.TensorProtocol:
    if isinstance(tensor, ir.ExternalTensor) and not isinstance(tensor, CheckedTensor):
        return checked_tensor(tensor, place, files(tensor))
    return _as_array(tensor) if isinstance(tensor, ir.TensorProtoTensor) else tensor


def write_data(path: Path, weights: Mapping[str, ir.TensorProtocol]) -> None:
    """Write the file that `part_weights` points at."""
    with path.open("wb") as file:
        for tensor in weights.values():
            file.seek(_align(file.tell()))
            file.write(bytes_of(tensor))


def _align(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
